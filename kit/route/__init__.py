"""Chapter 11: who should answer this request? Policies, how they are judged, and a live gateway."""
