//! Address → number of the smallest network that holds it: nginx's `geo`.
//!
//! Compiled as the sets of `networks` are: a look-up is one binary search over the addresses at which the answer changes.

use std::net::IpAddr;

use ipnet::IpNet;

use super::networks::as_ipv4;
use super::sweep::{Range, sweep};

/// Networks with numbers, those of their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkMap {
    v4: Turns<u32>,
    v6: Turns<u128>,
}

/// The addresses from which on the answer is another one, in rising order; the first is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Turns<T> {
    at: Box<[T]>,
    answers: Box<[Option<u32>]>,
}

impl NetworkMap {
    /// The networks in any order; of two equal ones the first counts. An IPv4 address in its IPv6 form counts as IPv4.
    pub fn new(networks: impl Iterator<Item = IpNet>) -> NetworkMap {
        let mut networks: Vec<(IpNet, u32)> = networks.map(|network| as_ipv4(network.trunc())).zip(0..).collect();
        // The first range that is open answers. Stable: the first of equal ones stays first.
        networks.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
        let of = |is_v4: bool| {
            let family = networks.iter().filter(|(network, _)| network.addr().is_ipv4() == is_v4);
            let ranges: Vec<Range<Option<u32>>> = family.map(|(network, at)| Range::of(*network, Some(*at))).collect();
            sweep(&ranges, None)
        };
        NetworkMap {
            // A turn behind the highest IPv4 address is none.
            v4: Turns::new(of(true).into_iter().filter_map(|(at, answer)| Some((u32::try_from(at).ok()?, answer)))),
            v6: Turns::new(of(false).into_iter()),
        }
    }

    /// The place of the smallest network that holds `address`.
    pub fn get(&self, address: IpAddr) -> Option<usize> {
        let found = match address.to_canonical() {
            IpAddr::V4(address) => self.v4.get(address.to_bits()),
            IpAddr::V6(address) => self.v6.get(address.to_bits()),
        };
        found.map(|at| at as usize)
    }
}

impl<T: Ord> Turns<T> {
    fn new(turns: impl Iterator<Item = (T, Option<u32>)>) -> Turns<T> {
        let (at, answers): (Vec<T>, Vec<Option<u32>>) = turns.unzip();
        Turns { at: at.into(), answers: answers.into() }
    }

    fn get(&self, address: T) -> Option<u32> {
        let last = self.at.partition_point(|at| *at <= address).checked_sub(1)?;
        self.answers[last]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(networks: &[&str]) -> NetworkMap {
        NetworkMap::new(networks.iter().map(|text| super::super::networks::parse_network(text).unwrap()))
    }

    #[test]
    fn the_smallest_network_counts() {
        let networks =
            ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "0.0.0.0/0", "2001:db8::/32", "2001:db8:1::/48", "10.1.0.0/16"];
        let map = map(&networks);
        for (address, expect) in [
            ("10.2.0.1", Some(0)),
            ("10.1.0.1", Some(1)),
            ("10.1.2.3", Some(2)),
            ("10.1.2.4", Some(1)),
            ("11.0.0.0", Some(3)),
            ("255.255.255.255", Some(3)),
            ("::ffff:10.1.2.3", Some(2)),
            ("2001:db8::1", Some(4)),
            ("2001:db8:1::1", Some(5)),
            ("2001:db9::1", None),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None),
        ] {
            assert_eq!(map.get(address.parse().unwrap()), expect, "{address}");
        }
        assert_eq!(self::map(&[]).get("10.0.0.1".parse().unwrap()), None);
    }

    proptest! {
        #[test]
        fn finds_what_a_linear_search_finds(
            networks in prop::collection::vec((any::<u32>(), 0u8..=32), 0..20),
            addresses in prop::collection::vec(any::<u32>(), 20),
            near in any::<bool>(),
        ) {
            // Few bits that differ make networks that hold each other.
            let narrow = |bits: u32| if near { bits & 0xc000_0003 } else { bits };
            let net = |(bits, prefix): &(u32, u8)| IpNet::new(IpAddr::V4(narrow(*bits).into()), *prefix).unwrap().trunc();
            let networks: Vec<IpNet> = networks.iter().map(net).collect();
            let map = NetworkMap::new(networks.iter().copied());
            for bits in addresses {
                let address = IpAddr::V4(narrow(bits).into());
                let mut holding: Vec<(u8, std::cmp::Reverse<usize>)> = Vec::new();
                for (at, network) in networks.iter().enumerate().filter(|(_, network)| network.contains(&address)) {
                    holding.push((network.prefix_len(), std::cmp::Reverse(at)));
                }
                prop_assert_eq!(map.get(address), holding.into_iter().max().map(|(_, at)| at.0));
            }
        }
    }
}
