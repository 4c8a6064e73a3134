// The stage: shows one slide at a time and scales it to the window.
// Right, Down, PageDown, Space, n: on · Left, Up, PageUp, p: back · Home, End · s: speaker notes · f: full screen
"use strict";
const WIDTH = 1280, HEIGHT = 720;
const stage = document.getElementById("stage");
const slides = [...stage.querySelectorAll("section section")];
// Notes that follow a fragment stand inside it; they belong to the whole slide.
stage.querySelectorAll("aside.notes").forEach((note) => note.closest("section").append(note));
const fragments = (slide) => [...slide.querySelectorAll(".fragment")];
let at = 0;    // index of the slide
let shown = 0; // how many of its fragments are visible

function draw() {
  slides.forEach((slide, i) => slide.classList.toggle("current", i === at));
  fragments(slides[at]).forEach((part, i) => part.classList.toggle("shown", i < shown));
  document.getElementById("page").textContent = `${at + 1} / ${slides.length}`;
  document.getElementById("bar").value = slides.length > 1 ? at / (slides.length - 1) : 1;
  history.replaceState(null, "", `#${at + 1}`);
}

function goTo(slide, part = 0) {
  at = Math.min(Math.max(slide, 0), slides.length - 1);
  shown = Math.min(part, fragments(slides[at]).length);
  draw();
}

function next() {
  if (shown < fragments(slides[at]).length) goTo(at, shown + 1);
  else if (at < slides.length - 1) goTo(at + 1);
}

function back() {
  if (shown > 0) goTo(at, shown - 1);
  else if (at > 0) goTo(at - 1, Infinity);
}

const keys = {
  ArrowRight: next, ArrowDown: next, PageDown: next, " ": next, n: next,
  ArrowLeft: back, ArrowUp: back, PageUp: back, p: back,
  Home: () => goTo(0), End: () => goTo(slides.length - 1, Infinity),
  s: () => stage.classList.toggle("with-notes"),
  f: () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen()),
};

addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, details");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});

function fit() {
  const scale = Math.min(innerWidth / WIDTH, innerHeight / HEIGHT);
  stage.style.transform = `translate(-50%, -50%) scale(${scale})`;
}

function fromAddress() {
  goTo((parseInt(location.hash.slice(1), 10) || 1) - 1);
}

addEventListener("resize", fit);
addEventListener("hashchange", fromAddress);
fit();
fromAddress();
