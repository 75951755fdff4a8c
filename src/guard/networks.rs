//! Networks in CIDR form compiled for membership, and ordered allow and deny rules over them.
//!
//! Either becomes two sorted lists of addresses, one for IPv4 and one for IPv6, at which the answer turns over: a
//! look-up is one binary search, however many rules there are, and touches a few cache lines. An IPv4 address in its
//! IPv6 form (`::ffff:10.0.0.1`, RFC 4291 section 2.5.5.2) counts as IPv4 everywhere, which an IPv6 network such as
//! `::/0` therefore does not hold.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::sweep::{Range, sweep};

/// Where a connection or request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// An IP address.
    Ip(IpAddr),
    /// A Unix socket of this machine.
    Unix,
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Source {
        Source::Ip(address)
    }
}

/// A set of networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(Table);

impl Networks {
    /// The addresses of all these networks together.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Networks {
        let rules: Vec<AddressRule> =
            networks.into_iter().map(|network| AddressRule { allow: true, of: RuleOf::Network(network) }).collect();
        Networks(Table::new(&rules, false))
    }

    /// Whether one of the networks holds `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.get(Source::Ip(address))
    }

    /// Whether no address is in it.
    pub fn is_empty(&self) -> bool {
        self.0 == Table::new(&[], false)
    }
}

/// An ordered list of rules as nginx's `allow` and `deny`: the first that matches decides, and what none matches may
/// come in. A refused request is answered with 403.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRules {
    /// What none matches may come in.
    lenient: Table,
    /// What none matches is refused: where the two differ, no rule matches.
    strict: Table,
}

impl AddressRules {
    /// Compiles the rules, first one first.
    pub fn new(rules: &[AddressRule]) -> AddressRules {
        AddressRules { lenient: Table::new(rules, true), strict: Table::new(rules, false) }
    }

    /// Whether `source` may come in.
    pub fn admits(&self, source: Source) -> bool {
        self.lenient.get(source)
    }

    /// What the first rule that matches says; `None`: no rule does.
    pub fn verdict(&self, source: Source) -> Option<bool> {
        let lenient = self.lenient.get(source);
        (lenient == self.strict.get(source)).then_some(lenient)
    }
}

/// One line of [`AddressRules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRule {
    /// Let in, or keep out.
    pub allow: bool,
    /// Whom it is about.
    pub of: RuleOf,
}

/// Whom a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleOf {
    /// Everyone.
    All,
    /// Unix sockets.
    Unix,
    /// The addresses of a network.
    Network(IpNet),
}

impl AddressRule {
    /// Reads `allow 10.0.0.0/8`, `deny 192.168.1.1`, `allow unix:` or `deny all`.
    ///
    /// Errors: what is wrong and what to write.
    pub fn parse(text: &str) -> Result<AddressRule, RuleError> {
        let wrong = || RuleError::NotARule(text.into());
        let (verb, target) = text.trim().split_once(char::is_whitespace).ok_or_else(wrong)?;
        let allow = match verb {
            "allow" => true,
            "deny" => false,
            _ => return Err(wrong()),
        };
        let of = match target.trim() {
            "all" => RuleOf::All,
            "unix:" => RuleOf::Unix,
            target if target.ends_with(';') => return Err(RuleError::Semicolon(text.trim_end_matches(';').into())),
            target => RuleOf::Network(parse_network(target)?),
        };
        Ok(AddressRule { allow, of })
    }
}

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// It is neither `allow …` nor `deny …`.
    NotARule(String),
    /// It ends as a line of nginx does; this is the text without the end.
    Semicolon(String),
    /// Its network is wrong.
    Network(NetworkError),
}

impl From<NetworkError> for RuleError {
    fn from(error: NetworkError) -> RuleError {
        RuleError::Network(error)
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleError::NotARule(text) => write!(
                f,
                "`{text}` is not a rule: write \"allow\" or \"deny\" and a network, an address, \"unix:\" or \"all\""
            ),
            RuleError::Semicolon(text) => write!(f, "a rule has no semicolon: write \"{text}\""),
            RuleError::Network(error) => error.fmt(f),
        }
    }
}

/// Why a text is no network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// It is neither an address nor a network.
    NotANetwork(String),
    /// It is a name, which would have to be resolved.
    Name(String),
    /// An address with a port, or in brackets; this is the address alone.
    Decorated(IpAddr),
    /// Bits behind the prefix are set.
    HostBits {
        /// As written.
        text: String,
        /// The network that the address belongs to.
        network: IpNet,
    },
    /// The prefix is no number, or too long for the family.
    Prefix {
        /// As written.
        text: String,
        /// Longest prefix of the address's family, bits.
        bits_max: u8,
    },
    /// A mask instead of the length of the prefix.
    Mask {
        /// As written.
        text: String,
        /// The same network in the right form.
        network: IpNet,
    },
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetworkError::NotANetwork(text) => {
                write!(
                    f,
                    "`{text}` is not a network: write one such as \"10.0.0.0/8\" or \"2001:db8::/32\", or an address"
                )
            }
            NetworkError::Name(text) => write!(f, "names are not resolved: write the IP address of `{text}`"),
            NetworkError::Decorated(address) => write!(f, "only the address counts here: write \"{address}\""),
            NetworkError::HostBits { text, network } => write!(f, "{text} has host bits set: write {network}"),
            NetworkError::Prefix { text, bits_max } => {
                write!(f, "`{text}` has a bad prefix: behind the slash stands a number from 0 to {bits_max}")
            }
            NetworkError::Mask { text, network } => write!(f, "`{text}` has a mask: write {network}"),
        }
    }
}

/// Reads a network, or a plain address, which is a network of one.
///
/// Errors: what is wrong and what to write.
pub fn parse_network(text: &str) -> Result<IpNet, NetworkError> {
    let (address_text, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let Ok(address) = address_text.parse::<IpAddr>() else { return Err(what_else(text)) };
    let Some(prefix) = prefix else { return Ok(IpNet::from(address.to_canonical())) };
    let network = with_prefix(text, address, prefix)?;
    if network.trunc() != network {
        return Err(NetworkError::HostBits { text: text.into(), network: network.trunc() });
    }
    Ok(as_ipv4(network))
}

fn with_prefix(text: &str, address: IpAddr, prefix: &str) -> Result<IpNet, NetworkError> {
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(bits) = prefix.parse::<u8>().ok().filter(|_| digits)
        && let Ok(network) = IpNet::new(address, bits)
    {
        return Ok(network);
    }
    let mask = prefix.parse::<IpAddr>().ok().and_then(|mask| IpNet::with_netmask(address, mask).ok());
    Err(match mask {
        Some(network) => NetworkError::Mask { text: text.into(), network: network.trunc() },
        None => NetworkError::Prefix { text: text.into(), bits_max },
    })
}

/// A network inside `::ffff:0:0/96` in its IPv4 form.
pub(super) fn as_ipv4(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    let v4 = mapped.and_then(|(address, bits)| Ipv4Net::new(address, bits).ok());
    v4.map_or(network, IpNet::V4)
}

#[cold]
fn what_else(text: &str) -> NetworkError {
    let inside = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(inside, _)| inside);
    let address = inside.or_else(|| text.split_once(':').map(|(host, _)| host));
    if let Some(address) = address.and_then(|address| address.parse().ok()) {
        return NetworkError::Decorated(address);
    }
    let name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    // Something with a digit first is more likely an address with a slip in it.
    if text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(name) {
        return NetworkError::Name(text.into());
    }
    NetworkError::NotANetwork(text.into())
}

/// Answers for every possible source.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Table {
    v4: Turns<u32>,
    v6: Turns<u128>,
    unix: bool,
}

impl Table {
    /// The first rule that matches gives the answer; without one it is `otherwise`.
    fn new(rules: &[AddressRule], otherwise: bool) -> Table {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for rule in rules {
            let range = |first, last| Range { first, last, answer: rule.allow };
            match rule.of {
                RuleOf::Unix => {}
                RuleOf::All => {
                    v4.push(range(0, u32::MAX.into()));
                    v6.push(range(0, u128::MAX));
                }
                RuleOf::Network(network) => {
                    let network = as_ipv4(network.trunc());
                    let ranges = if network.addr().is_ipv4() { &mut v4 } else { &mut v6 };
                    ranges.push(Range::of(network, rule.allow));
                }
            }
        }
        let of_unix = |rule: &&AddressRule| matches!(rule.of, RuleOf::All | RuleOf::Unix);
        let narrow = |turns: Turns<u128>| {
            // Every turn is at the first address of an IPv4 range or behind the last of one that is not the highest.
            let at = turns.at.iter().filter_map(|at| u32::try_from(*at).ok()).collect();
            Turns { first: turns.first, at }
        };
        Table {
            v4: narrow(Turns::new(&v4, otherwise)),
            v6: Turns::new(&v6, otherwise),
            unix: rules.iter().find(of_unix).map_or(otherwise, |rule| rule.allow),
        }
    }

    fn get(&self, source: Source) -> bool {
        match source {
            Source::Ip(address) => match address.to_canonical() {
                IpAddr::V4(address) => self.v4.get(address.to_bits()),
                IpAddr::V6(address) => self.v6.get(address.to_bits()),
            },
            Source::Unix => self.unix,
        }
    }
}

/// A yes-or-no answer for each address, kept as the addresses from which on it is the other one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Turns<T> {
    /// The answer below the first turn.
    first: bool,
    /// In rising order.
    at: Box<[T]>,
}

impl<T: Ord> Turns<T> {
    fn get(&self, address: T) -> bool {
        self.first ^ (self.at.partition_point(|at| *at <= address) % 2 == 1)
    }
}

impl Turns<u128> {
    fn new(ranges: &[Range<bool>], otherwise: bool) -> Turns<u128> {
        let turns = sweep(ranges, otherwise);
        // The first one is at 0, and from there on every turn is to the other answer.
        Turns { first: turns[0].1, at: turns[1..].iter().map(|(at, _)| *at).collect() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_are_read_and_slips_explained() {
        let check = |text: &str, expect: Result<&str, &str>| {
            let found = parse_network(text).map(|network| network.to_string()).map_err(|error| error.to_string());
            assert_eq!(found, expect.map(str::to_owned).map_err(str::to_owned), "{text}");
        };
        check("10.0.0.0/8", Ok("10.0.0.0/8"));
        check("0.0.0.0/0", Ok("0.0.0.0/0"));
        check("192.168.1.1", Ok("192.168.1.1/32"));
        check("2001:DB8::/32", Ok("2001:db8::/32"));
        check("::1", Ok("::1/128"));
        check("::/0", Ok("::/0"));
        check("::ffff:10.0.0.0/104", Ok("10.0.0.0/8"));
        check("::ffff:0:0/96", Ok("0.0.0.0/0"));
        check("::ffff:10.0.0.1", Ok("10.0.0.1/32"));
        check("10.0.0.1/8", Err("10.0.0.1/8 has host bits set: write 10.0.0.0/8"));
        check("2001:db8::1/32", Err("2001:db8::1/32 has host bits set: write 2001:db8::/32"));
        check("10.0.0.0/33", Err("`10.0.0.0/33` has a bad prefix: behind the slash stands a number from 0 to 32"));
        check("::/129", Err("`::/129` has a bad prefix: behind the slash stands a number from 0 to 128"));
        check("10.0.0.0/+8", Err("`10.0.0.0/+8` has a bad prefix: behind the slash stands a number from 0 to 32"));
        check("10.0.0.0/", Err("`10.0.0.0/` has a bad prefix: behind the slash stands a number from 0 to 32"));
        check("10.0.0.0/255.0.0.0", Err("`10.0.0.0/255.0.0.0` has a mask: write 10.0.0.0/8"));
        check("10.0.0.1:80", Err("only the address counts here: write \"10.0.0.1\""));
        check("[::1]:80", Err("only the address counts here: write \"::1\""));
        check("[::1]", Err("only the address counts here: write \"::1\""));
        check("localhost", Err("names are not resolved: write the IP address of `localhost`"));
        check("10.0.0.0/8/8", Err("`10.0.0.0/8/8` has a bad prefix: behind the slash stands a number from 0 to 32"));
        for text in ["", "10.0.0", "10.0.0/8", "10.0.0.256", "010.0.0.1", ":::", "a b", "fe80::1%eth0"] {
            assert_eq!(parse_network(text), Err(NetworkError::NotANetwork(text.into())));
        }
    }

    #[test]
    fn rules_are_read_and_slips_explained() {
        let rule = |text: &str| AddressRule::parse(text).map_err(|error| error.to_string());
        assert_eq!(rule("deny all"), Ok(AddressRule { allow: false, of: RuleOf::All }));
        assert_eq!(rule(" allow   unix: "), Ok(AddressRule { allow: true, of: RuleOf::Unix }));
        let network = RuleOf::Network("10.0.0.0/8".parse().unwrap());
        assert_eq!(rule("allow 10.0.0.0/8"), Ok(AddressRule { allow: true, of: network }));
        assert_eq!(rule("deny all;"), Err("a rule has no semicolon: write \"deny all\"".into()));
        assert_eq!(rule("allow 10.0.0.1/8"), Err("10.0.0.1/8 has host bits set: write 10.0.0.0/8".into()));
        for text in ["", "deny", "all", "10.0.0.0/8", "block all", "Allow all"] {
            assert!(rule(text).unwrap_err().contains("is not a rule"), "{text}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = |texts: &[&str]| {
            let rules: Vec<AddressRule> = texts.iter().map(|text| AddressRule::parse(text).unwrap()).collect();
            AddressRules::new(&rules)
        };
        // The example of nginx's ngx_http_access_module.
        let all = rules(&[
            "deny 192.168.1.1",
            "allow 192.168.1.0/24",
            "allow 10.1.0.0/16",
            "allow 2001:db8::/32",
            "allow unix:",
            "deny all",
        ]);
        for (text, admitted) in [
            ("192.168.1.1", false),
            ("::ffff:192.168.1.1", false),
            ("192.168.1.2", true),
            ("192.168.0.255", false),
            ("192.168.2.0", false),
            ("10.1.255.255", true),
            ("::ffff:10.1.0.0", true),
            ("10.2.0.0", false),
            ("2001:db8::", true),
            ("2001:db9::", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("::", false),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
        ] {
            assert_eq!(all.admits(address(text).into()), admitted, "{text}");
        }
        assert!(all.admits(Source::Unix) && !rules(&["deny unix:"]).admits(Source::Unix));
        assert!(rules(&[]).admits(address("1.2.3.4").into()), "what no rule matches may come in");
        assert!(rules(&["allow all", "deny all"]).admits(address("::1").into()));
        let outer_first = rules(&["allow 10.0.0.0/8", "deny 10.1.0.0/16"]);
        assert!(outer_first.admits(address("10.1.2.3").into()));
        let only_v6 = rules(&["deny ::/0"]);
        assert!(only_v6.admits(address("::ffff:1.2.3.4").into()) && !only_v6.admits(address("::1").into()));
    }

    #[test]
    fn a_set_of_networks_holds_their_addresses() {
        let texts = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7", "::1", "fe80::/10", "255.255.255.255"];
        let set = Networks::new(texts.map(|text| parse_network(text).unwrap()));
        for text in ["10.255.255.255", "10.1.2.3", "192.0.2.7", "::1", "febf::1", "255.255.255.255", "::ffff:10.0.0.0"]
        {
            assert!(set.contains(address(text)), "{text}");
        }
        for text in ["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "::", "::2", "fec0::", "255.255.255.254"] {
            assert!(!set.contains(address(text)), "{text}");
        }
        assert!(!set.is_empty() && Networks::new([]).is_empty());
        // Mapped networks made without the parser.
        let mapped: IpNet = "::ffff:10.0.0.0/104".parse().unwrap();
        assert!(Networks::new([mapped]).contains(address("10.9.9.9")));
    }

    fn any_network() -> impl Strategy<Value = IpNet> {
        // Few distinct bits, so that networks nest and touch.
        let v4 = (0u32..16, 0u8..=32).prop_map(|(bits, prefix)| {
            let address = IpAddr::V4((bits << 28 | bits).into());
            IpNet::new(address, prefix).unwrap().trunc()
        });
        let v6 = (0u128..16, 0u8..=128).prop_map(|(bits, prefix)| {
            let address = IpAddr::V6((bits << 124 | bits).into());
            IpNet::new(address, prefix).unwrap().trunc()
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn the_compiled_list_answers_as_the_written_one(
            rules in proptest::collection::vec((any::<bool>(), prop_oneof![
                1 => Just(RuleOf::All), 1 => Just(RuleOf::Unix), 8 => any_network().prop_map(RuleOf::Network),
            ]), 0..12),
            low in 0u32..20, high in 0u32..16,
        ) {
            let rules: Vec<AddressRule> = rules.into_iter().map(|(allow, of)| AddressRule { allow, of }).collect();
            let compiled = AddressRules::new(&rules);
            let v4 = IpAddr::V4((high << 28 | low).into());
            let v6 = IpAddr::V6((u128::from(high) << 124 | u128::from(low)).into());
            for source in [v4.into(), v6.into(), Source::Unix] {
                let matches = |rule: &&AddressRule| match (rule.of, source) {
                    (RuleOf::All, _) | (RuleOf::Unix, Source::Unix) => true,
                    (RuleOf::Network(network), Source::Ip(address)) => network.contains(&address),
                    _ => false,
                };
                let expect = rules.iter().find(matches).map(|rule| rule.allow);
                prop_assert_eq!(compiled.verdict(source), expect, "{:?} {:?}", source, rules);
                prop_assert_eq!(compiled.admits(source), expect.unwrap_or(true), "{:?} {:?}", source, rules);
            }
        }

        #[test]
        fn any_text_is_a_network_or_advice(text in "(?s)[0-9a-f:./\\[\\]%x-]{0,30}|.{0,20}") {
            if let Err(error) = parse_network(&text) {
                prop_assert!(!error.to_string().is_empty());
            }
            let _ = AddressRule::parse(&format!("allow {text}"));
        }
    }
}
