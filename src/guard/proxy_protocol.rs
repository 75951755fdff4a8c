//! The PROXY protocol, versions 1 and 2: a balancer in front tells whose connection this is, before the first byte of
//! that connection. Receiver and sender; specification: HAProxy, doc/proxy-protocol.txt.
//!
//! Bytes in, header and its length out; no I/O. Whoever may send such a header may claim any address, so the caller
//! decides whom it listens to, and reads nothing else from the connection before the header is complete.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::networks::Source;

/// Longest header of version 1 in bytes, its line end included (section 2.1).
const V1_BYTES_MAX: usize = 107;

/// Longest header of version 2 that is accepted, in bytes. The length field could announce 64 KiB; senders need a few
/// hundred bytes, for certificate names.
pub const V2_BYTES_MAX: usize = 4096;

/// Signature of version 2 (section 2.2).
const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, and the length of the rest.
const V2_FIXED_BYTES: usize = 16;

const V1_START: &[u8] = b"PROXY ";

/// PP2_TYPE_ALPN and PP2_TYPE_AUTHORITY of sections 2.2.1 and 2.2.2.
const TYPE_ALPN: u8 = 0x01;
const TYPE_AUTHORITY: u8 = 0x02;

/// PP2_TYPE_CRC32C of section 2.2.3: the checksum of the whole header, computed with zeros in its place.
const TYPE_CRC32C: u8 = 0x03;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The sender speaks for itself, for example to check our health: the connection's own addresses count.
    Local,
    /// The sender does not know, or cannot say, for whom it speaks: the connection's own addresses count.
    Unknown,
    /// It speaks for the connection from `source` to `destination`, both of one family.
    Ip {
        /// The client.
        source: SocketAddr,
        /// Where the client connected to.
        destination: SocketAddr,
    },
    /// It speaks for a connection over a Unix socket of its machine. The names are not kept.
    Unix,
}

impl Header {
    /// The client, where the header names one; else the connection's own address counts.
    pub fn source(&self) -> Option<Source> {
        match self {
            Header::Ip { source, .. } => Some(Source::Ip(source.ip().to_canonical())),
            Header::Unix => Some(Source::Unix),
            Header::Local | Header::Unknown => None,
        }
    }
}

/// Why a connection does not begin with a header. All are the sender's fault; the connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It begins with something else.
    NoHeader,
    /// Version 1 without a line end within its 107 bytes.
    LineTooLong,
    /// Version 1: the line ends with a bare LF, or holds a bare CR.
    LineEnd,
    /// Version 1: the family is neither TCP4 nor TCP6 nor UNKNOWN.
    Family,
    /// Version 1: an address is not one of the family, or not written as it must be.
    Address,
    /// Version 1: a port is not a number from 0 to 65535 without leading zeros.
    Port,
    /// Version 1: a field is missing, or something follows the last one.
    Fields,
    /// The signature of version 2 with another version number.
    Version(u8),
    /// Version 2: a command other than LOCAL and PROXY.
    Command(u8),
    /// Version 2: a family or transport that the specification does not have.
    Transport(u8),
    /// Version 2: longer than [`V2_BYTES_MAX`].
    TooLarge(usize),
    /// Version 2: too short for the addresses of its family.
    TooShort,
    /// Version 2: an extension runs beyond the end, or there is half of one.
    Extension,
    /// Version 2: the checksum is wrong, is there twice, or has another length than four bytes.
    Checksum,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoHeader => f.write_str("the connection does not begin with a PROXY protocol header"),
            Error::LineTooLong => write!(f, "the PROXY line does not end within {V1_BYTES_MAX} bytes"),
            Error::LineEnd => f.write_str("the PROXY line does not end with CR LF"),
            Error::Family => f.write_str("the PROXY line has a family other than TCP4, TCP6 and UNKNOWN"),
            Error::Address => f.write_str("the PROXY line has a bad address"),
            Error::Port => f.write_str("the PROXY line has a bad port"),
            Error::Fields => f.write_str("the PROXY line has too few or too many fields"),
            Error::Version(version) => write!(f, "version {version} of the PROXY protocol is not known"),
            Error::Command(command) => write!(f, "command {command} of the PROXY protocol is not known"),
            Error::Transport(byte) => write!(f, "family and transport {byte:#04x} of the PROXY protocol is not known"),
            Error::TooLarge(bytes) => write!(f, "the PROXY header has {bytes} bytes, more than {V2_BYTES_MAX}"),
            Error::TooShort => f.write_str("the PROXY header is too short for its addresses"),
            Error::Extension => f.write_str("the PROXY header has an extension that does not fit"),
            Error::Checksum => f.write_str("the checksum of the PROXY header is wrong"),
        }
    }
}

impl std::error::Error for Error {}

/// Reads the header at the beginning of `input`; with it how many bytes it takes. What follows is the connection's own.
///
/// `Ok(None)`: the header is not complete yet. It never asks for more than [`V2_BYTES_MAX`] bytes.
/// Errors: what no more bytes can make a header.
pub fn parse(input: &[u8]) -> Result<Option<(Header, usize)>, Error> {
    let begins = |start: &[u8]| input.iter().zip(start).all(|(byte, expected)| byte == expected);
    if begins(&V2_SIGNATURE) {
        return parse_v2(input);
    }
    if begins(V1_START) {
        return parse_v1(input);
    }
    Err(Error::NoHeader)
}

fn parse_v1(input: &[u8]) -> Result<Option<(Header, usize)>, Error> {
    let head = &input[..input.len().min(V1_BYTES_MAX)];
    let Some(end) = memchr::memchr2(b'\r', b'\n', head) else {
        return if head.len() == V1_BYTES_MAX { Err(Error::LineTooLong) } else { Ok(None) };
    };
    match head[end..] {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if end + 1 == V1_BYTES_MAX => return Err(Error::LineTooLong),
        [b'\r'] => return Ok(None),
        _ => return Err(Error::LineEnd),
    }
    let line = head[..end].strip_prefix(V1_START).ok_or(Error::NoHeader)?;
    Ok(Some((v1_line(line)?, end + 2)))
}

/// What stands between `PROXY ` and the line end.
fn v1_line(line: &[u8]) -> Result<Header, Error> {
    let mut fields = line.split(|byte| *byte == b' ');
    let family = fields.next().unwrap_or_default();
    if family == b"UNKNOWN" {
        // The rest of the line is to be ignored (section 2.1).
        return Ok(Header::Unknown);
    }
    if !matches!(family, b"TCP4" | b"TCP6") {
        return Err(Error::Family);
    }
    let mut field = || fields.next().ok_or(Error::Fields);
    let [source, destination, source_port, destination_port] = [field()?, field()?, field()?, field()?];
    if fields.next().is_some() {
        return Err(Error::Fields);
    }
    let address = |text| if family == b"TCP4" { v1_address::<Ipv4Addr>(text) } else { v1_address::<Ipv6Addr>(text) };
    let source = SocketAddr::new(address(source)?, v1_port(source_port)?);
    let destination = SocketAddr::new(address(destination)?, v1_port(destination_port)?);
    Ok(Header::Ip { source, destination })
}

fn v1_address<T: std::str::FromStr + Into<IpAddr>>(text: &[u8]) -> Result<IpAddr, Error> {
    let text = std::str::from_utf8(text).map_err(|_| Error::Address)?;
    text.parse::<T>().map(Into::into).map_err(|_| Error::Address)
}

fn v1_port(text: &[u8]) -> Result<u16, Error> {
    match text {
        [] | [b'0', _, ..] => return Err(Error::Port),
        _ => {}
    }
    let digit = |port: u16, byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?;
        port.checked_mul(10)?.checked_add(digit)
    };
    text.iter().try_fold(0, digit).ok_or(Error::Port)
}

fn parse_v2(input: &[u8]) -> Result<Option<(Header, usize)>, Error> {
    if let Some(byte) = input.get(12)
        && byte >> 4 != 2
    {
        return Err(Error::Version(byte >> 4));
    }
    let Some(fixed) = input.first_chunk::<V2_FIXED_BYTES>() else { return Ok(None) };
    let bytes = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if bytes > V2_BYTES_MAX {
        return Err(Error::TooLarge(bytes));
    }
    let (command, transport) = (fixed[12] & 0xf, fixed[13]);
    if command > 1 {
        return Err(Error::Command(command));
    }
    if transport >> 4 > 3 || transport & 0xf > 2 {
        return Err(Error::Transport(transport));
    }
    let Some(header) = input.get(..bytes) else { return Ok(None) };
    // With LOCAL, and for families it does not know, the receiver skips everything (section 2.2).
    let said = match (command, transport >> 4, transport & 0xf) {
        (0, _, _) => Header::Local,
        (_, 0, _) | (_, _, 0) => Header::Unknown,
        (_, 1, _) => v2_addresses(header, 4)?,
        (_, 2, _) => v2_addresses(header, 16)?,
        _ => v2_unix(header)?,
    };
    Ok(Some((said, bytes)))
}

fn v2_addresses(header: &[u8], address_bytes: usize) -> Result<Header, Error> {
    let block = &header[V2_FIXED_BYTES..];
    let (source, rest) = block.split_at_checked(address_bytes).ok_or(Error::TooShort)?;
    let (destination, rest) = rest.split_at_checked(address_bytes).ok_or(Error::TooShort)?;
    let (ports, extensions) = rest.split_first_chunk::<4>().ok_or(Error::TooShort)?;
    check_extensions(header, extensions)?;
    let address = |bytes: &[u8]| match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => Ok(IpAddr::from(v4)),
        Err(_) => <[u8; 16]>::try_from(bytes).map(IpAddr::from).map_err(|_| Error::TooShort),
    };
    Ok(Header::Ip {
        source: SocketAddr::new(address(source)?, u16::from_be_bytes([ports[0], ports[1]])),
        destination: SocketAddr::new(address(destination)?, u16::from_be_bytes([ports[2], ports[3]])),
    })
}

/// Bytes of the two names of a Unix connection.
const UNIX_NAMES_BYTES: usize = 2 * 108;

fn v2_unix(header: &[u8]) -> Result<Header, Error> {
    let extensions = header[V2_FIXED_BYTES..].get(UNIX_NAMES_BYTES..).ok_or(Error::TooShort)?;
    check_extensions(header, extensions)?;
    Ok(Header::Unix)
}

/// Walks over the extensions (TLVs, section 2.2), which end where the header ends.
fn check_extensions(header: &[u8], extensions: &[u8]) -> Result<(), Error> {
    let mut rest = extensions;
    let mut checked = false;
    while !rest.is_empty() {
        let (start, behind) = rest.split_first_chunk::<3>().ok_or(Error::Extension)?;
        let bytes = usize::from(u16::from_be_bytes([start[1], start[2]]));
        let (value, behind) = behind.split_at_checked(bytes).ok_or(Error::Extension)?;
        if start[0] == TYPE_CRC32C {
            let said = <[u8; 4]>::try_from(value).map_err(|_| Error::Checksum)?;
            let at = header.len() - behind.len() - said.len();
            if checked || u32::from_be_bytes(said) != checksum(header, at) {
                return Err(Error::Checksum);
            }
            checked = true;
        }
        rest = behind;
    }
    Ok(())
}

/// CRC32c of a header, with zeros in place of the four bytes at `at`.
fn checksum(header: &[u8], at: usize) -> u32 {
    let crc = crc32c(u32::MAX, &header[..at]);
    !crc32c(crc32c(crc, &[0; 4]), &header[at + 4..])
}

/// Castagnoli's CRC, RFC 3720 appendix B.4, reflected, without the final complement.
fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| CRC32C[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let (mut crc, mut bit) = (index as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

/// Appends the header in version 1. It has no words for [`Header::Local`] and [`Header::Unix`], which become UNKNOWN.
pub fn encode_v1(header: &Header, out: &mut Vec<u8>) {
    use std::io::Write;
    let written = match same_family(header) {
        Header::Ip { source, destination } => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (source.ip(), destination.ip());
            write!(out, "PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port())
        }
        Header::Local | Header::Unknown | Header::Unix => out.write_all(b"PROXY UNKNOWN\r\n"),
    };
    // Writing to a Vec cannot fail.
    debug_assert!(written.is_ok());
}

/// Whether a header of version 2 ends with its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// It does.
    Crc32c,
    /// It does not.
    None,
}

/// What version 2 can tell beside the addresses (TLVs, section 2.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions<'a> {
    /// Name that the client has asked for in TLS. One longer than 255 bytes is left out.
    pub authority: Option<&'a str>,
    /// Protocol agreed on by ALPN, which has at most 255 bytes.
    pub alpn: Option<&'a str>,
}

/// Longest name of a client's that is told.
const NAME_BYTES_MAX: usize = 255;

/// Appends the header in version 2, for a stream connection.
pub fn encode_v2(header: &Header, checksum_wanted: Checksum, out: &mut Vec<u8>) {
    encode_v2_with(header, Extensions::default(), checksum_wanted, out);
}

/// As [`encode_v2`], with more about the connection. [`Header::Local`] has nothing more to tell.
pub fn encode_v2_with(header: &Header, extensions: Extensions<'_>, checksum_wanted: Checksum, out: &mut Vec<u8>) {
    let start = out.len();
    let header = same_family(header);
    let (command, transport) = match header {
        Header::Local => (0x20, 0x00),
        Header::Unknown => (0x21, 0x00),
        Header::Ip { source, .. } if source.is_ipv4() => (0x21, 0x11),
        Header::Ip { .. } => (0x21, 0x21),
        Header::Unix => (0x21, 0x31),
    };
    out.extend_from_slice(&V2_SIGNATURE);
    out.extend_from_slice(&[command, transport, 0, 0]);
    match header {
        Header::Local | Header::Unknown => {}
        Header::Unix => out.resize(out.len() + UNIX_NAMES_BYTES, 0),
        Header::Ip { source, destination } => {
            for address in [source.ip(), destination.ip()] {
                match address {
                    IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
                    IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
                }
            }
            out.extend_from_slice(&source.port().to_be_bytes());
            out.extend_from_slice(&destination.port().to_be_bytes());
        }
    }
    if header != Header::Local {
        let told = [(TYPE_ALPN, extensions.alpn), (TYPE_AUTHORITY, extensions.authority)];
        for (kind, value) in told.into_iter().filter_map(|(kind, value)| value.map(|value| (kind, value.as_bytes()))) {
            if (1..=NAME_BYTES_MAX).contains(&value.len()) {
                out.extend_from_slice(&[kind, 0, value.len() as u8]);
                out.extend_from_slice(value);
            }
        }
    }
    if checksum_wanted == Checksum::Crc32c {
        out.extend_from_slice(&[TYPE_CRC32C, 0, 4, 0, 0, 0, 0]);
    }
    let block_bytes = (out.len() - start - V2_FIXED_BYTES) as u16;
    out[start + 14..start + 16].copy_from_slice(&block_bytes.to_be_bytes());
    if checksum_wanted == Checksum::Crc32c {
        let at = out.len() - 4;
        let crc = checksum(&out[start..], at - start);
        out[at..].copy_from_slice(&crc.to_be_bytes());
    }
}

/// Both addresses in IPv6 form where they are of two families, without flow labels and zones, which the protocol lacks.
fn same_family(header: &Header) -> Header {
    let Header::Ip { source, destination } = *header else { return *header };
    let both = |address: SocketAddr| match address.ip() {
        IpAddr::V4(v4) if source.is_ipv4() != destination.is_ipv4() => {
            SocketAddr::new(v4.to_ipv6_mapped().into(), address.port())
        }
        ip => SocketAddr::new(ip, address.port()),
    };
    Header::Ip { source: both(source), destination: both(destination) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(source: &str, destination: &str) -> Header {
        Header::Ip { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    /// The whole header, with bytes of the connection behind it, gives the same at every split point: incomplete until
    /// its last byte, then the header.
    #[track_caller]
    fn check(header: &[u8], expect: Header) {
        for end in 0..header.len() {
            assert_eq!(parse(&header[..end]), Ok(None), "{end} of {}", header.escape_ascii());
        }
        let mut more = header.to_vec();
        for _ in 0..3 {
            assert_eq!(parse(&more), Ok(Some((expect, header.len()))), "{}", header.escape_ascii());
            more.extend_from_slice(b"\r\nGET / HTTP/1.1\r\n\r\n");
        }
    }

    /// Refused, and incomplete or refused in the same way before.
    #[track_caller]
    fn refuse(header: &[u8], expect: Error) {
        assert_eq!(parse(header), Err(expect), "{}", header.escape_ascii());
        for end in 0..header.len() {
            let found = parse(&header[..end]);
            assert!(matches!(found, Ok(None)) || found == Err(expect), "{end} of {}: {found:?}", header.escape_ascii());
        }
    }

    #[test]
    fn version_1() {
        check(b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", ip("192.168.0.1:56324", "192.168.0.11:443"));
        check(
            b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            ip("255.255.255.255:65535", "255.255.255.255:65535"),
        );
        check(b"PROXY TCP4 0.0.0.0 1.2.3.4 0 0\r\n", ip("0.0.0.0:0", "1.2.3.4:0"));
        check(b"PROXY TCP6 2001:DB8::1 ::1 1 80\r\n", ip("[2001:db8::1]:1", "[::1]:80"));
        check(b"PROXY TCP6 ::ffff:1.2.3.4 ::1 1 80\r\n", ip("[::ffff:1.2.3.4]:1", "[::1]:80"));
        check(b"PROXY UNKNOWN\r\n", Header::Unknown);
        check(b"PROXY UNKNOWN whatever  \xff stands here\r\n", Header::Unknown);
        // The longest line of the specification, 107 bytes.
        let longest = format!("PROXY UNKNOWN {0} {0} 65535 65535\r\n", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        assert_eq!(longest.len(), V1_BYTES_MAX);
        check(longest.as_bytes(), Header::Unknown);
    }

    #[test]
    fn version_1_has_one_spelling() {
        for (line, error) in [
            ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", Error::LineEnd),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\r\n", Error::LineEnd),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 1\r2\r\n", Error::LineEnd),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", Error::Fields),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n", Error::Fields),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n", Error::Fields),
            ("PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n", Error::Fields),
            ("PROXY TCP4\r\n", Error::Fields),
            ("PROXY \r\n", Error::Family),
            ("PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n", Error::Family),
            ("PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n", Error::Family),
            ("PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", Error::Family),
            ("PROXY UNKNOWNX\r\n", Error::Family),
            ("PROXY TCP4 ::1 ::1 1 2\r\n", Error::Address),
            ("PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n", Error::Address),
            ("PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n", Error::Address),
            ("PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n", Error::Address),
            ("PROXY TCP4 1.2.3.04 5.6.7.8 1 2\r\n", Error::Address),
            ("PROXY TCP6 [::1] ::1 1 2\r\n", Error::Address),
            ("PROXY TCP6 ::1%1 ::1 1 2\r\n", Error::Address),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", Error::Port),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 00 2\r\n", Error::Port),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n", Error::Port),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n", Error::Port),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 1 -2\r\n", Error::Port),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 1 0x2\r\n", Error::Port),
            ("PROXY TCP4 1.2.3.4 5.6.7.8  2\r\n", Error::Port),
        ] {
            refuse(line.as_bytes(), error);
        }
        let too_long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
        assert_eq!(too_long.len(), V1_BYTES_MAX + 1);
        refuse(too_long.as_bytes(), Error::LineTooLong);
        refuse(format!("PROXY UNKNOWN {}", "x".repeat(500)).as_bytes(), Error::LineTooLong);
    }

    #[test]
    fn what_is_no_header_is_known_by_its_first_wrong_byte() {
        for text in [
            "GET / HTTP/1.1\r\n",
            "PROXx",
            "PROXY\r\n",
            "PROXY\t",
            "\r\n\r\nx",
            "proxy ",
            "\0",
            "\x16\x03\x01",
            "PUT /",
        ] {
            refuse(text.as_bytes(), Error::NoHeader);
        }
        assert_eq!(parse(b""), Ok(None));
        // An empty line before a request is allowed by RFC 9112 section 2.2, but it is no header.
        refuse(b"\r\nGET", Error::NoHeader);
    }

    fn v2(command: u8, transport: u8, block: &[u8]) -> Vec<u8> {
        let bytes = (block.len() as u16).to_be_bytes();
        [&V2_SIGNATURE[..], &[command, transport], &bytes, block].concat()
    }

    const V4_BLOCK: [u8; 12] = [10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 80];

    #[test]
    fn version_2() {
        let v4 = ip("10.0.0.1:4660", "10.0.0.2:80");
        check(&v2(0x21, 0x11, &V4_BLOCK), v4);
        check(&v2(0x21, 0x12, &V4_BLOCK), v4);
        let mut v6 = [0; 36];
        (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 7, 8);
        check(&v2(0x21, 0x21, &v6), ip("[::1]:7", "[::2]:8"));
        check(&v2(0x21, 0x31, &[b'/'; UNIX_NAMES_BYTES]), Header::Unix);
        // LOCAL and unknown families: the block is skipped whatever it holds.
        for block in [&b""[..], &V4_BLOCK, &[0xff; 7]] {
            check(&v2(0x20, 0x00, block), Header::Local);
            check(&v2(0x20, 0x11, block), Header::Local);
            check(&v2(0x21, 0x00, block), Header::Unknown);
            check(&v2(0x21, 0x10, block), Header::Unknown);
        }
        // Extensions: a name (0x02), padding (0x04), an unknown one, an empty one.
        let extensions = b"\x02\x00\x03a.b\x04\x00\x02\0\0\xee\x00\x01x\xee\x00\x00";
        check(&v2(0x21, 0x11, &[&V4_BLOCK[..], extensions].concat()), v4);
        let largest = V2_BYTES_MAX - V2_FIXED_BYTES - V4_BLOCK.len() - 3;
        let padding = [&[4][..], &(largest as u16).to_be_bytes(), &vec![0; largest]].concat();
        check(&v2(0x21, 0x11, &[&V4_BLOCK[..], &padding].concat()), v4);
    }

    #[test]
    fn version_2_keeps_its_lengths() {
        refuse(&v2(0x11, 0x11, &V4_BLOCK), Error::Version(1));
        refuse(&v2(0x31, 0x11, &V4_BLOCK), Error::Version(3));
        refuse(&v2(0x22, 0x11, &V4_BLOCK), Error::Command(2));
        refuse(&v2(0x2f, 0x11, &V4_BLOCK), Error::Command(15));
        refuse(&v2(0x21, 0x41, &V4_BLOCK), Error::Transport(0x41));
        refuse(&v2(0x21, 0x13, &V4_BLOCK), Error::Transport(0x13));
        refuse(&v2(0x21, 0x11, &V4_BLOCK[..11]), Error::TooShort);
        refuse(&v2(0x21, 0x11, b""), Error::TooShort);
        refuse(&v2(0x21, 0x21, &[0; 35]), Error::TooShort);
        refuse(&v2(0x21, 0x31, &[0; UNIX_NAMES_BYTES - 1]), Error::TooShort);
        for extension in [&b"\x04"[..], b"\x04\x00", b"\x04\x00\x01", b"\x04\xff\xffx", b"\xee\x00\x00\x04"] {
            refuse(&v2(0x21, 0x11, &[&V4_BLOCK[..], extension].concat()), Error::Extension);
        }
        refuse(&v2(0x21, 0x11, &[0; V2_BYTES_MAX]), Error::TooLarge(V2_BYTES_MAX + V2_FIXED_BYTES));
        // Before the rest has arrived.
        let announced = [&V2_SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat();
        refuse(&announced, Error::TooLarge(0xffff + V2_FIXED_BYTES));
    }

    #[test]
    fn a_wrong_checksum_is_noticed() {
        // RFC 3720 appendix B.4.
        assert_eq!(!crc32c(u32::MAX, &[0; 32]), 0x8a91_36aa);
        assert_eq!(!crc32c(u32::MAX, b"123456789"), 0xe306_9283);
        let header = ip("10.0.0.1:4660", "10.0.0.2:80");
        let mut bytes = Vec::new();
        encode_v2(&header, Checksum::Crc32c, &mut bytes);
        check(&bytes, header);
        // Every changed bit of addresses, ports and checksum.
        for at in V2_FIXED_BYTES..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let extension = (V2_FIXED_BYTES + 12..V2_FIXED_BYTES + 15).contains(&at);
                match parse(&changed) {
                    Err(Error::Checksum) => {}
                    // Another type or length of the extension itself.
                    found => assert!(extension, "{at} {bit}: {found:?}"),
                }
            }
        }
        let twice = [&bytes[V2_FIXED_BYTES..], &bytes[bytes.len() - 7..]].concat();
        refuse(&v2(0x21, 0x11, &twice), Error::Checksum);
        refuse(&v2(0x21, 0x11, &[&V4_BLOCK[..], b"\x03\x00\x02\0\0"].concat()), Error::Checksum);
    }

    #[test]
    fn the_source_is_the_clients_address() {
        let source = |header: Header| header.source();
        assert_eq!(source(ip("[::ffff:1.2.3.4]:5", "[::1]:6")), Some(Source::Ip([1, 2, 3, 4].into())));
        assert_eq!(source(Header::Unix), Some(Source::Unix));
        assert_eq!((source(Header::Local), source(Header::Unknown)), (None, None));
    }

    fn any_header() -> impl Strategy<Value = Header> {
        let v4 = any::<([u8; 4], u16, [u8; 4], u16)>()
            .prop_map(|(from, a, to, b)| Header::Ip { source: (from, a).into(), destination: (to, b).into() });
        let v6 = any::<([u8; 16], u16, [u8; 16], u16)>()
            .prop_map(|(from, a, to, b)| Header::Ip { source: (from, a).into(), destination: (to, b).into() });
        prop_oneof![v4, v6, Just(Header::Local), Just(Header::Unknown), Just(Header::Unix)]
    }

    #[test]
    fn addresses_of_two_families_become_ipv6() {
        let mixed = ip("1.2.3.4:5", "[::1]:6");
        let expect = ip("[::ffff:1.2.3.4]:5", "[::1]:6");
        let (mut one, mut two) = (Vec::new(), Vec::new());
        encode_v1(&mixed, &mut one);
        encode_v2(&mixed, Checksum::None, &mut two);
        check(&one, expect);
        check(&two, expect);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(header in any_header(), before in proptest::collection::vec(any::<u8>(), 0..4)) {
            let mut out = before.clone();
            encode_v1(&header, &mut out);
            prop_assert!(out.len() - before.len() <= V1_BYTES_MAX);
            let expect = if matches!(header, Header::Ip { .. }) { header } else { Header::Unknown };
            check(&out[before.len()..], expect);
            for checksum in [Checksum::None, Checksum::Crc32c] {
                let mut out = before.clone();
                encode_v2(&header, checksum, &mut out);
                check(&out[before.len()..], header);
            }
        }

        #[test]
        fn extensions_read_back(header in any_header(), authority in "[a-z.]{0,300}", alpn in "[a-z/.0-9]{1,255}") {
            let extensions = Extensions { authority: Some(&authority), alpn: Some(&alpn) };
            for checksum in [Checksum::None, Checksum::Crc32c] {
                let mut out = Vec::new();
                encode_v2_with(&header, extensions, checksum, &mut out);
                check(&out, header);
                let has = |kind: u8, value: &str| {
                    let told = [&[kind, 0, value.len() as u8][..], value.as_bytes()].concat();
                    out.windows(told.len()).any(|window| window == told)
                };
                let tells = header != Header::Local;
                prop_assert_eq!(has(TYPE_ALPN, &alpn), tells);
                if (1..=NAME_BYTES_MAX).contains(&authority.len()) {
                    prop_assert_eq!(has(TYPE_AUTHORITY, &authority), tells);
                }
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), start in 0usize..4) {
            let mut input = [&b""[..], V1_START, &V2_SIGNATURE, b"PROXY TCP4 "][start].to_vec();
            input.extend(bytes);
            if let Ok(Some((_, used))) = parse(&input) {
                prop_assert!(used <= input.len());
            }
        }

        #[test]
        fn a_changed_header_never_panics(
            header in any_header(), checksum in any::<bool>(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut out = Vec::new();
            if checksum { encode_v2(&header, Checksum::Crc32c, &mut out) } else { encode_v1(&header, &mut out) }
            let at = at.index(out.len());
            out[at] = byte;
            let _ = parse(&out);
        }
    }
}
