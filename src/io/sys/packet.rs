//! Packet sockets (packet(7), Linux `include/uapi/linux/if_packet.h`).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use nix::libc::{self, c_int, c_void, socklen_t};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// All protocols, in network byte order (`ETH_P_ALL`).
const ALL_PROTOCOLS: u16 = (libc::ETH_P_ALL as u16).to_be();

/// What one read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes in the buffer.
    pub len: usize,
    /// The frame was longer than the buffer.
    pub is_cut: bool,
    /// The VLAN tag that the kernel or the card took out of the frame: type and tag control information.
    pub tag: Option<(u16, u16)>,
    /// The transport checksum covers only the pseudo header so far.
    pub needs_checksum: bool,
}

/// What a membership asks of the interface, for as long as the socket is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// Frames to this address, too.
    Unicast([u8; 6]),
    /// Frames to every group.
    AllMulticast,
    /// Every frame.
    Promiscuous,
}

/// Opens a packet socket that receives nothing before [`bind`]. Needs CAP_NET_RAW over the calling
/// thread's namespace; nothing that is done with it later does.
///
/// # Errors
/// EPERM without the capability.
pub fn open() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Packet, SockType::Raw, flags, None)?)
}

fn set<T>(socket: BorrowedFd<'_>, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as socklen_t;
    // SAFETY: the descriptor is open while borrowed, and the kernel reads at most `len` bytes of the
    // value; where these hold a pointer, the caller keeps alive what it points to.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, ptr::from_ref(value).cast::<c_void>(), len)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Puts a virtio-net header of 10 bytes before each frame, read and written.
///
/// # Errors
/// ENOPROTOOPT when the kernel has none.
pub fn use_headers(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1)
}

/// Lets reads tell of VLAN tags and missing checksums.
///
/// # Errors
/// ENOPROTOOPT when the kernel cannot.
pub fn use_auxiliary_data(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1)
}

/// Spares the kernel to show us what leaves by the interface; Linux 4.20 and later.
///
/// # Errors
/// ENOPROTOOPT when the kernel is older.
pub fn ignore_outgoing(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1)
}

/// Sets how many bytes may wait in either direction, beyond the administrator's limits if this
/// process may (CAP_NET_ADMIN), else as far as they go.
pub fn set_buffers(socket: BorrowedFd<'_>, bytes: c_int) {
    for (forced, ordinary) in
        [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)]
    {
        // A smaller buffer works too.
        let _ = set(socket, libc::SOL_SOCKET, forced, &bytes)
            .or_else(|_| set(socket, libc::SOL_SOCKET, ordinary, &bytes));
    }
}

/// Joins a membership of the interface with this index.
///
/// # Errors
/// ENODEV when there is none, and what its driver refuses.
pub fn join(socket: BorrowedFd<'_>, index: u32, membership: Membership) -> io::Result<()> {
    set(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request(index, membership))
}

/// Gives a membership up.
///
/// # Errors
/// EADDRNOTAVAIL when the socket does not have it.
pub fn leave(socket: BorrowedFd<'_>, index: u32, membership: Membership) -> io::Result<()> {
    set(socket, libc::SOL_PACKET, libc::PACKET_DROP_MEMBERSHIP, &request(index, membership))
}

fn request(index: u32, membership: Membership) -> libc::packet_mreq {
    let (kind, address) = match membership {
        Membership::Unicast(address) => (libc::PACKET_MR_UNICAST, address),
        Membership::AllMulticast => (libc::PACKET_MR_ALLMULTI, [0; 6]),
        Membership::Promiscuous => (libc::PACKET_MR_PROMISC, [0; 6]),
    };
    let [a, b, c, d, e, f] = address;
    libc::packet_mreq {
        mr_ifindex: index.cast_signed(),
        mr_type: kind as u16,
        mr_alen: 6,
        mr_address: [a, b, c, d, e, f, 0, 0],
    }
}

/// Lets the kernel drop what is not for a station: frames that leave by the interface, and frames to
/// other stations. Classic BPF (Linux `Documentation/networking/filter.rst`).
///
/// # Errors
/// EINVAL when the kernel knows no such filters.
pub fn filter(socket: BorrowedFd<'_>, station: [u8; 6]) -> io::Result<()> {
    const BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    const WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const KIND: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
    let [a, b, c, d, e, f] = station;
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(BYTE, KIND, 0, 0),
        step(EQUAL, libc::PACKET_OUTGOING.into(), 6, 0),
        step(BYTE, 0, 0, 0),
        step(BIT, 1, 5, 0),
        step(WORD, 0, 0, 0),
        step(EQUAL, u32::from_be_bytes([a, b, c, d]), 0, 2),
        step(HALF, 4, 0, 0),
        step(EQUAL, u16::from_be_bytes([e, f]).into(), 1, 0),
        step(RETURN, 0, 0, 0),
        step(RETURN, u32::MAX, 0, 0),
    ];
    // The kernel copies the program during the call.
    let whole = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &whole)
}

/// Binds the socket to an interface: from here on it receives.
///
/// # Errors
/// ENODEV when there is no such interface.
pub fn bind(socket: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let mut address = empty_address();
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ALL_PROTOCOLS;
    address.sll_ifindex = index.cast_signed();
    let len = size_of::<libc::sockaddr_ll>() as socklen_t;
    // SAFETY: the kernel reads `len` bytes of an address that we own.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether the socket is still bound to the interface with this index: it is while the interface is
/// down, it is not when that was deleted or moved away (`packet_notifier`, Linux `net/packet/af_packet.c`).
pub fn is_bound(socket: BorrowedFd<'_>, index: u32) -> bool {
    let mut address = empty_address();
    let mut len = size_of::<libc::sockaddr_ll>() as socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to an address that we own.
    let result = unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut len) };
    result == 0 && address.sll_ifindex == index.cast_signed()
}

fn empty_address() -> libc::sockaddr_ll {
    // SAFETY: integers and an array of such, for which all zeros is a valid value.
    unsafe { std::mem::zeroed() }
}

/// The MTU of an interface in the socket's namespace.
///
/// # Errors
/// ENODEV when there is no such interface.
pub fn mtu(socket: BorrowedFd<'_>, index: u32) -> io::Result<u32> {
    // SAFETY: integers, arrays and a union of such, for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_ifru.ifru_ifindex = index.cast_signed();
    for number in [libc::SIOCGIFNAME, libc::SIOCGIFMTU] {
        // SAFETY: both requests read and write the ifreq that we own; the first fills in the name that
        // the second looks up.
        if unsafe { libc::ioctl(socket.as_raw_fd(), number as _, &raw mut request) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: SIOCGIFMTU has just written this member of the union.
    Ok(unsafe { request.ifr_ifru.ifru_mtu }.cast_unsigned())
}

/// How many frames the kernel dropped for want of room since this was last asked.
///
/// # Errors
/// ENOTSOCK when it is no socket.
pub fn take_drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut len = size_of::<libc::tpacket_stats>() as socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to a value that we own.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut len,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(statistics.tp_drops) }
}

/// Room for one control message with the auxiliary data, aligned like a control message header.
const CONTROL_WORDS: usize = 8;

/// Reads one frame.
///
/// # Errors
/// EAGAIN when there is none; EINVAL when the kernel cannot say in a virtio-net header how the frame
/// is to be segmented (it is gone then); ENETDOWN once when the interface went down.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = [0_u64; CONTROL_WORDS];
    let mut slice = libc::iovec { iov_base: buffer.as_mut_ptr().cast::<c_void>(), iov_len: buffer.len() };
    // SAFETY: numbers and pointers, for which all zeros is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut slice, 1);
    message.msg_control = control.as_mut_ptr().cast::<c_void>();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the message points to one slice and to the control words, all exclusively ours.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    let is_cut = message.msg_flags & libc::MSG_TRUNC != 0;
    let mut received = Received { len, is_cut, tag: None, needs_checksum: false };
    if let Some(data) = auxiliary_data(&message) {
        let has = |status| data.tp_status & status != 0;
        // Kernels before 3.14 leave the type out.
        let kind = if has(libc::TP_STATUS_VLAN_TPID_VALID) { data.tp_vlan_tpid } else { 0x8100 };
        received.tag = has(libc::TP_STATUS_VLAN_VALID).then_some((kind, data.tp_vlan_tci));
        received.needs_checksum = has(libc::TP_STATUS_CSUMNOTREADY);
    }
    Ok(received)
}

fn auxiliary_data(message: &libc::msghdr) -> Option<libc::tpacket_auxdata> {
    // SAFETY: the kernel wrote whole control messages into the words and their extent into
    // `msg_controllen`; the macro of cmsg(3) stays within that.
    let part = unsafe { libc::CMSG_FIRSTHDR(message) };
    if part.is_null() {
        return None;
    }
    // SAFETY: not null, hence a whole, aligned header within the control words.
    let header = unsafe { ptr::read(part) };
    // SAFETY: arithmetic on its argument.
    let whole = unsafe { libc::CMSG_LEN(size_of::<libc::tpacket_auxdata>() as u32) } as usize;
    let is_auxiliary = (header.cmsg_level, header.cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA);
    if !is_auxiliary || header.cmsg_len < whole {
        return None;
    }
    // SAFETY: the message is long enough for this, which is integers and may lie unaligned.
    Some(unsafe { ptr::read_unaligned(libc::CMSG_DATA(part).cast::<libc::tpacket_auxdata>()) })
}
