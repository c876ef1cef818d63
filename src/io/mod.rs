//! The shell: everything that touches the kernel.

pub mod capture;
pub mod confine;
pub mod control_socket;
pub mod courtesy;
pub mod descriptors;
pub mod device;
pub mod event_loop;
pub mod foreign;
pub mod helper;
pub mod host;
pub mod host_port;
pub mod journal;
pub mod last_drop;
pub mod netlink;
pub mod netns;
pub mod patience;
pub mod private;
pub mod random;
pub mod resolv_conf;
pub mod state_file;
pub mod sys;
pub mod tap;
pub mod uplink;
pub mod watch;
