//! Integration tests: one binary, one module a subject.

#[cfg(test)]
mod cli;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod handoff;
#[cfg(test)]
mod readme;
#[cfg(test)]
mod storm;
