"""The caller's side of a call: what is heard, what there are no words of yet, what is left when the line is lost."""
