//! Typed facts about this machine, without names of the protocol. All files are read below a root
//! directory that the caller gives, so tests run on captured trees of other machines.
#![forbid(unsafe_code)]

mod asking;
pub mod block;
pub mod credential;
pub mod ending;
pub mod fuse;
pub mod hooks;
pub mod hotplug;
pub mod init;
pub mod mounts;
pub mod names;
pub mod network;
pub mod os;
pub mod rtc;
pub mod serial;
pub mod sleep;
pub mod sysfs;
pub mod time_zone;
pub mod users;
pub mod volumes;
