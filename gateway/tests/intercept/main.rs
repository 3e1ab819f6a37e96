//! Interception on a real kernel, in namespaces: each test builds its own lab.

mod divert;
mod lab;
