//! Asks the kernel about routes, tracked connections and tables of nftables over netlink, where `/proc`
//! does not tell and no program may be at hand.
//!
//! Messages are written and read as bytes: a length, a kind, and attributes that have lengths of
//! their own. Every length is checked against what is there; what does not fit ends the reading.
//!
//! Facts: netlink(7), rtnetlink(7), and the kernel's uapi headers linux/netlink.h, linux/rtnetlink.h,
//! linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h and nf_tables.h.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::AddressFamily;
use rustix::net::Protocol;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::net::netlink;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt;
use rustix::net::sockopt::Timeout;

const HEADER: usize = 16;
/// The kernel fills at most 32 KiB of one answer to a dump.
const BUFFER: usize = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(5);

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;

/// `NETLINK_ROUTE` is protocol 0.
const ROUTE: Option<Protocol> = None;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;

const CT_GET: u16 = (1 << 8) | 1;
const CT_DELETE: u16 = (1 << 8) | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
/// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER` are no part of an attribute's kind.
const KIND_MASK: u16 = 0x3fff;
const NESTED: u16 = 0x8000;

/// A change of tables is a batch: a beginning, the changes, an end.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NFT_SUBSYSTEM: u16 = 10;
const NFT_DELETE_TABLE: u16 = (NFT_SUBSYSTEM << 8) | 2;
const NFTA_TABLE_NAME: u16 = 1;

const IPS_SRC_NAT: u32 = 1 << 4;
const IPS_DST_NAT: u32 = 1 << 5;

/// The protocol number of UDP.
const UDP: u8 = 17;

/// A tracked UDP flow, as far as it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The address that the sender sent to.
    pub destination: IpAddr,
    /// The port that the sender sent to.
    pub port: u16,
    /// The address that answers.
    pub answerer: IpAddr,
    /// Whether an address of it is translated.
    pub translated: bool,
}

/// The name of the interface that packets to this address leave by.
///
/// # Errors
///
/// What the kernel says: that the network is unreachable, for one.
pub fn interface_towards(address: IpAddr) -> io::Result<String> {
    let bytes = octets(address);
    let bits = u8::try_from(bytes.len() * 8).unwrap_or(u8::MAX);
    // struct rtmsg: family, both prefix lengths, and what the kernel chooses by itself.
    let mut body = vec![family(address), bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    attribute(&mut body, RTA_DST, &bytes);
    let mut index = None;
    let mut socket = Socket::open(ROUTE)?;
    socket.ask(RTM_GETROUTE, NLM_F_ACK, &body, |answer| {
        let attributes = answer.get(12..).unwrap_or_default();
        index = index.or(find(attributes, RTA_OIF).and_then(native));
        Ok(())
    })?;
    let index = index.ok_or(io::ErrorKind::NotFound)?;
    let name = nix::net::if_::if_indextoname(index)?;
    name.into_string().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Forgets the tracked UDP flows of the address family of `like` that `stale` says are so; gives
/// how many. May take long on a node with very many flows.
///
/// # Errors
///
/// What the kernel says; without connection tracking there is nothing to forget.
pub fn forget_flows(like: IpAddr, stale: impl Fn(&Flow) -> bool) -> io::Result<usize> {
    // struct nfgenmsg: family, version, resource.
    let head = [family(like), 0, 0, 0];
    let mut found = Vec::new();
    let mut socket = Socket::open(Some(netlink::NETFILTER))?;
    socket.ask(CT_GET, NLM_F_DUMP, &head, |answer| {
        let attributes = answer.get(4..).unwrap_or_default();
        if flow(attributes).is_some_and(|flow| stale(&flow)) {
            let mut body = head.to_vec();
            for kind in [CTA_TUPLE_ORIG, CTA_ZONE, CTA_ID] {
                if let Some(value) = find(attributes, kind) {
                    let nested = if kind == CTA_TUPLE_ORIG { NESTED } else { 0 };
                    attribute(&mut body, kind | nested, value);
                }
            }
            found.push(body);
        }
        Ok(())
    })?;
    for body in &found {
        match socket.ask(CT_DELETE, NLM_F_ACK, body, |_| Ok(())) {
            // It ended by itself meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(found.len())
}

/// Removes a table of nftables with all that is in it, of the address family of `like`; that there is
/// none, or no nftables, is fine.
///
/// # Errors
///
/// What the kernel says.
pub fn remove_nft_table(like: IpAddr, name: &str) -> io::Result<()> {
    let [high, low] = NFT_SUBSYSTEM.to_be_bytes();
    let around = [0, 0, high, low];
    let mut body = vec![family(like), 0, 0, 0];
    let mut text = name.as_bytes().to_vec();
    text.push(0);
    attribute(&mut body, NFTA_TABLE_NAME, &text);
    let mut socket = Socket::open(Some(netlink::NETFILTER))?;
    let messages: [(u16, u16, &[u8]); 3] =
        [(BATCH_BEGIN, 0, &around), (NFT_DELETE_TABLE, NLM_F_ACK, &body), (BATCH_END, 0, &around)];
    match socket.send(&messages).and_then(|()| socket.receive(|_| Ok(()))) {
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.kind() == io::ErrorKind::Unsupported
                || error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) =>
        {
            Ok(())
        }
        other => other,
    }
}

fn flow(attributes: &[u8]) -> Option<Flow> {
    let (original, reply) = (find(attributes, CTA_TUPLE_ORIG)?, find(attributes, CTA_TUPLE_REPLY)?);
    let protocol = find(original, CTA_TUPLE_PROTO)?;
    let status = find(attributes, CTA_STATUS).and_then(|bytes| bytes.try_into().ok());
    if find(protocol, CTA_PROTO_NUM)?.first() != Some(&UDP) {
        return None;
    }
    Some(Flow {
        destination: tuple_address(original, Side::Destination)?,
        port: u16::from_be_bytes(find(protocol, CTA_PROTO_DST_PORT)?.try_into().ok()?),
        answerer: tuple_address(reply, Side::Source)?,
        translated: u32::from_be_bytes(status?) & (IPS_SRC_NAT | IPS_DST_NAT) != 0,
    })
}

enum Side {
    Source,
    Destination,
}

fn tuple_address(tuple: &[u8], side: Side) -> Option<IpAddr> {
    let addresses = find(tuple, CTA_TUPLE_IP)?;
    let (v4, v6) = match side {
        Side::Source => (1, 3),
        Side::Destination => (2, 4),
    };
    if let Some(bytes) = find(addresses, v4) {
        return Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?));
    }
    Some(IpAddr::from(<[u8; 16]>::try_from(find(addresses, v6)?).ok()?))
}

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    u8::try_from(family.as_raw()).unwrap_or_default()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn native(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// Appends an attribute and what aligns the next one.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The value of the first attribute of this kind.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        let value = attributes.get(4..length)?;
        if kind & KIND_MASK == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

struct Socket {
    socket: OwnedFd,
    sequence: u32,
}

impl Socket {
    fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let kind = SocketType::RAW;
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, kind, SocketFlags::CLOEXEC, protocol)?;
        sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends a request and hands each message of the answer to `each`, without its header.
    fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.send(&[(kind, flags, body)])?;
        self.receive(each)
    }

    /// Sends messages, each with its kind and flags, as one request.
    fn send(&mut self, messages: &[(u16, u16, &[u8])]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = Vec::new();
        for (kind, flags, body) in messages {
            let length = HEADER + body.len();
            let length = u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
            request.extend(length.to_ne_bytes());
            request.extend(kind.to_ne_bytes());
            request.extend((NLM_F_REQUEST | flags).to_ne_bytes());
            request.extend(self.sequence.to_ne_bytes());
            request.extend(0_u32.to_ne_bytes());
            request.extend(*body);
            request.resize(request.len().next_multiple_of(4), 0);
        }
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.socket, &request, SendFlags::empty(), &kernel)?;
        Ok(())
    }

    /// Reads the answer to the last request.
    fn receive(&self, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let (_, length) = rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::TRUNC)?;
            let answer = buffer.get(..length).ok_or(io::ErrorKind::InvalidData)?;
            if self.read(answer, &mut each)? {
                return Ok(());
            }
        }
    }

    /// Reads one datagram of an answer; gives whether it was the last.
    fn read(
        &self,
        mut answer: &[u8],
        each: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        while !answer.is_empty() {
            let message = Message::parse(answer).ok_or(io::ErrorKind::InvalidData)?;
            answer = answer.get(message.length.next_multiple_of(4)..).unwrap_or_default();
            if message.sequence != self.sequence {
                continue;
            }
            match message.kind {
                NLMSG_DONE => return Ok(true),
                NLMSG_ERROR => {
                    let code = message.body.get(..4).and_then(native).unwrap_or_default();
                    // The negative number of an error; zero acknowledges.
                    return match code.cast_signed().wrapping_neg() {
                        0 => Ok(true),
                        code => Err(io::Error::from_raw_os_error(code)),
                    };
                }
                _ => each(message.body)?,
            }
        }
        Ok(false)
    }
}

struct Message<'a> {
    length: usize,
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let length = usize::try_from(native(bytes.get(..4)?)?).ok()?;
        Some(Self {
            length,
            kind: u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?),
            sequence: native(bytes.get(8..12)?)?,
            body: bytes.get(HEADER..length)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_this_host_is_its_loopback_interface() {
        assert_eq!(interface_towards(IpAddr::from([127, 0, 0, 1])).unwrap(), "lo");
    }

    #[test]
    fn attributes_are_found_by_kind_and_never_beyond_their_end() {
        let mut body = Vec::new();
        attribute(&mut body, 7, b"seven");
        attribute(&mut body, NESTED | 9, b"nine");
        assert_eq!(find(&body, 7), Some(&b"seven"[..]));
        assert_eq!(find(&body, 9), Some(&b"nine"[..]));
        assert_eq!(find(&body, 8), None);
        for end in 0..12 {
            assert_eq!(find(&body[..end], 9), None, "{end}");
        }
        assert_eq!(find(&[200, 0, 9, 0, 1, 2], 9), None);
        // A length of zero leads nowhere, not around in circles.
        assert_eq!(find(&[0, 0, 1, 0, 0, 0, 9, 0], 9), None);
    }

    #[test]
    fn a_flow_is_read_from_its_attributes() {
        let tuple = |source: [u8; 4], destination: [u8; 4], port: u16| {
            let mut addresses = Vec::new();
            attribute(&mut addresses, 1, &source);
            attribute(&mut addresses, 2, &destination);
            let mut protocol = Vec::new();
            attribute(&mut protocol, CTA_PROTO_NUM, &[UDP]);
            attribute(&mut protocol, CTA_PROTO_DST_PORT, &port.to_be_bytes());
            let mut tuple = Vec::new();
            attribute(&mut tuple, NESTED | CTA_TUPLE_IP, &addresses);
            attribute(&mut tuple, NESTED | CTA_TUPLE_PROTO, &protocol);
            tuple
        };
        let mut body = Vec::new();
        attribute(&mut body, NESTED | CTA_TUPLE_ORIG, &tuple([10, 0, 0, 9], [10, 0, 0, 1], 53));
        attribute(&mut body, NESTED | CTA_TUPLE_REPLY, &tuple([10, 85, 0, 5], [10, 0, 0, 9], 4000));
        attribute(&mut body, CTA_STATUS, &IPS_DST_NAT.to_be_bytes());
        let found = flow(&body).unwrap();
        assert_eq!(
            found,
            Flow {
                destination: IpAddr::from([10, 0, 0, 1]),
                port: 53,
                answerer: IpAddr::from([10, 85, 0, 5]),
                translated: true,
            }
        );
        for end in 0..body.len() {
            assert_eq!(flow(&body[..end]), None, "{end}");
        }
    }
}
