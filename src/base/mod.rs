//! What every layer stands on: caps, byte stores, fixed strings, base64, error texts. No I/O, no formats.
#![forbid(unsafe_code)]

pub mod base64;
pub mod civil;
pub mod crypt;
pub mod errno;
pub mod index;
pub mod limits;
pub mod packed;
pub mod path;
pub mod store;
pub mod text;
