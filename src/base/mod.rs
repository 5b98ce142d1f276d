//! What every layer stands on: caps, byte stores, fixed strings, error texts. No I/O, no formats.
#![forbid(unsafe_code)]

pub mod errno;
pub mod limits;
pub mod path;
pub mod store;
pub mod text;
