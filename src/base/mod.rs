//! The lowest layer: caps, byte sinks, sorted indices, packed texts, paths, numbers as text,
//! base64, dates, password hashes and error texts. No I/O, no file formats.
#![forbid(unsafe_code)]

pub mod base64;
pub mod civil;
pub mod crypt;
pub mod errno;
pub mod index;
pub mod limits;
pub mod packed;
pub mod path;
pub mod recent;
pub mod sink;
pub mod text;
