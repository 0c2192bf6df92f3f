//! Integration tests: one binary, one module a subject.

#[cfg(test)]
mod docs;
#[cfg(test)]
mod handoff;
