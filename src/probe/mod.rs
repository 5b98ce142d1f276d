//! Typed facts about this machine. What they are read from is given to them as a root directory, so
//! that captured trees serve as machines in tests.
#![forbid(unsafe_code)]

mod asking;
pub mod block;
pub mod ending;
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
