//! Addresses of hosts and networks, with the lengths of their prefixes.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::name::InvalidText;

/// A network: an address whose host bits are zero, and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(InterfaceAddress);

impl Network {
    /// The network that is nothing but `address`.
    pub fn host(address: IpAddr) -> Self {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        Self(InterfaceAddress { address, prefix })
    }

    /// Whether every address of `other` is one of this network.
    pub fn covers(&self, other: &Self) -> bool {
        self.0.prefix <= other.0.prefix && self.0.reaches(other.0.address)
    }

    /// Its lowest address.
    pub fn address(&self) -> IpAddr {
        self.0.address
    }

    /// Addresses that hosts in it can have, from the lowest on: without the one that names the network, unless it is the
    /// only one.
    pub fn hosts(&self) -> impl Iterator<Item = IpAddr> {
        let network = *self;
        let bits = if self.0.address.is_ipv4() { 32 } else { 128 };
        let first = u32::from(self.0.prefix < bits);
        (first..=u32::MAX)
            .map(move |number| match network.0.address {
                IpAddr::V4(lowest) => IpAddr::V4(u32::from(lowest).wrapping_add(number).into()),
                IpAddr::V6(lowest) => {
                    IpAddr::V6(u128::from(lowest).wrapping_add(u128::from(number)).into())
                }
            })
            .take_while(move |address| network.covers(&Self::host(*address)))
    }
}

impl FromStr for Network {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        text.parse::<InterfaceAddress>()
            .ok()
            .filter(|interface| interface.address == interface.network_address())
            .map(Self)
            .ok_or(InvalidText("a network without host bits (such as 10.20.40.0/24)"))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The address of a host and the length of its network's prefix: `10.20.40.2/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceAddress {
    address: IpAddr,
    prefix: u8,
}

impl InterfaceAddress {
    /// The address of the host.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The number of leading bits that all hosts of the network share.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether `other` lies in the same network.
    pub fn reaches(&self, other: IpAddr) -> bool {
        let other = Self { address: other, prefix: self.prefix };
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.network_address() == other.network_address()
    }

    /// The network that the host is in.
    pub fn network(&self) -> Network {
        Network(Self { address: self.network_address(), prefix: self.prefix })
    }

    fn network_address(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4((u32::from(address) & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6((u128::from(address) & mask).into())
            }
        }
    }
}

impl FromStr for InterfaceAddress {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let address: IpAddr = address.parse().ok()?;
            let prefix: u8 =
                prefix.bytes().all(|byte| byte.is_ascii_digit()).then(|| prefix.parse().ok())??;
            let longest = if address.is_ipv4() { 32 } else { 128 };
            (prefix <= longest).then_some(Self { address, prefix })
        };
        parse()
            .ok_or(InvalidText("an address with the length of its prefix (such as 10.20.40.2/24)"))
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_no_host_bits() {
        for good in ["10.20.40.0/24", "0.0.0.0/0", "10.0.0.1/32", "fd00::/8", "::/0"] {
            assert!(good.parse::<Network>().is_ok(), "{good:?} is refused");
        }
        for bad in [
            "10.20.40.1/24",
            "10.20.40.0",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "fd00::1/64",
            "/8",
            "10.0.0.0/",
        ] {
            assert!(bad.parse::<Network>().is_err(), "{bad:?} is accepted");
        }
    }

    #[test]
    fn a_gateway_has_to_be_on_the_link() {
        let interface: InterfaceAddress = "10.20.40.2/24".parse().unwrap();
        assert!(interface.reaches("10.20.40.1".parse().unwrap()));
        assert!(!interface.reaches("10.20.41.1".parse().unwrap()));
        assert!(!interface.reaches("fd00::1".parse().unwrap()));
        assert_eq!(interface.to_string(), "10.20.40.2/24");
    }
}
