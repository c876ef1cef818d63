//! How long an idle flow is remembered, by protocol and state.

/// Seconds after the last packet, by state; the names are those of Linux's `nf_conntrack_*_timeout*` sysctls.
///
/// The defaults are Linux's (`net/netfilter/nf_conntrack_proto_*.c`), raised where an RFC asks for more of
/// a NAT: two minutes for UDP, five once both sides spoke (RFC 4787 REQ-5), four minutes for TCP connections
/// that are opening or closing (RFC 5382 REQ-5, RFC 7857 §2), one minute for ICMP queries (RFC 5508 REQ-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it, and the struct says the rest
pub struct Timeouts {
    pub tcp_syn_sent: u32,
    pub tcp_syn_recv: u32,
    pub tcp_established: u32,
    pub tcp_fin_wait: u32,
    pub tcp_close_wait: u32,
    pub tcp_last_ack: u32,
    pub tcp_time_wait: u32,
    pub tcp_close: u32,
    pub udp: u32,
    pub udp_stream: u32,
    pub icmp: u32,
    pub generic: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_syn_sent: 240,
            tcp_syn_recv: 240,
            tcp_established: 432_000,
            tcp_fin_wait: 240,
            tcp_close_wait: 240,
            tcp_last_ack: 240,
            tcp_time_wait: 240,
            tcp_close: 10,
            udp: 120,
            udp_stream: 300,
            icmp: 60,
            generic: 600,
        }
    }
}
