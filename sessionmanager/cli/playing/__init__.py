"""What `demo` is made of: a recording, a service of its own, the story that is played, and how it is shown."""
