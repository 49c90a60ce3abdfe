//! Small values that configuration files spell in their own way: durations, sizes, windows of the day, addresses with a
//! prefix. Each parser says in its error what would be right, because that sentence ends in front of an operator.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

/// Why a value was not understood: a sentence that says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub String);

impl ValueError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// An address with the length of its network's prefix, as in `10.0.0.100/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpPrefix {
    /// The address itself, host bits included.
    pub addr: IpAddr,
    /// The prefix length in bits: at most 32 for IPv4, 128 for IPv6.
    pub prefix: u8,
}

impl IpPrefix {
    /// An address with a prefix that fits its family.
    pub fn new(addr: IpAddr, prefix: u8) -> Result<Self, ValueError> {
        let longest = longest_prefix(addr);
        if prefix > longest {
            return Err(ValueError::new(format!(
                "an address whose prefix has at most {longest} bits"
            )));
        }
        Ok(Self { addr, prefix })
    }

    /// The address alone: the longest prefix of its family, which is what keepalived makes of a bare address.
    pub fn host(addr: IpAddr) -> Self {
        Self {
            addr,
            prefix: longest_prefix(addr),
        }
    }
}

fn longest_prefix(addr: IpAddr) -> u8 {
    match addr {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl FromStr for IpPrefix {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (addr, prefix) = match text.split_once('/') {
            Some((addr, prefix)) => (addr, Some(prefix)),
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| {
            ValueError::new("an address such as \"10.0.0.100/24\" or \"2001:db8::100/64\"")
        })?;
        match prefix {
            None => Ok(Self::host(addr)),
            Some(prefix) => {
                let bits = prefix.parse().map_err(|_| {
                    ValueError::new("the number of bits after the slash, as in \"10.0.0.100/24\"")
                })?;
                Self::new(addr, bits)
            }
        }
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

impl Serialize for IpPrefix {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A time of day in minutes after midnight, local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct MinuteOfDay(pub u16);

/// A daily window such as `02:00-05:00`, in local time. One that ends before it begins spans midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Window {
    /// The first minute inside.
    pub from: MinuteOfDay,
    /// The first minute no longer inside.
    pub until: MinuteOfDay,
}

impl Window {
    /// Is this minute of the day inside the window?
    pub fn contains(&self, at: MinuteOfDay) -> bool {
        if self.from <= self.until {
            self.from <= at && at < self.until
        } else {
            at >= self.from || at < self.until
        }
    }
}

impl FromStr for Window {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let right = || ValueError::new("a window of the day such as \"02:00-05:00\"");
        let minute = |text: &str| -> Option<MinuteOfDay> {
            let (hours, minutes) = text.trim().split_once(':')?;
            let two_digits =
                |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            if !two_digits(hours) || !two_digits(minutes) {
                return None;
            }
            let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
            (hours < 24 && minutes < 60).then_some(MinuteOfDay(hours * 60 + minutes))
        };
        let (from, until) = text.split_once('-').ok_or_else(right)?;
        let from = minute(from).ok_or_else(right)?;
        let until = minute(until).ok_or_else(right)?;
        if from == until {
            return Err(ValueError::new(
                "a window that is not empty; leave the key out for any time",
            ));
        }
        Ok(Self { from, until })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hm = |m: MinuteOfDay| (m.0 / 60, m.0 % 60);
        let ((a, b), (c, d)) = (hm(self.from), hm(self.until));
        write!(f, "{a:02}:{b:02}-{c:02}:{d:02}")
    }
}

/// Parses `"300ms"`, `"1s"`, `"1.5s"`, `"10m"`, `"2h"`, `"30d"`. A unit is required: a bare number would be seconds to
/// one reader and milliseconds to the next.
pub fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    let right = || {
        ValueError::new(
            "a number with a unit (ms, s, m, h, d), such as \"300ms\", \"1s\" or \"10m\"",
        )
    };
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .ok_or_else(right)?;
    let (number, unit) = text.split_at(split);
    let micros_per_unit: u64 = match unit.trim_start() {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" | "min" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return Err(right()),
    };
    scaled(number, micros_per_unit)
        .map(Duration::from_micros)
        .ok_or_else(right)
}

/// Writes a duration the way [`parse_duration`] reads it, in the largest unit that gives a whole number.
pub fn format_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    for (unit, size) in [
        ("d", 86_400_000_000),
        ("h", 3_600_000_000),
        ("m", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1_000),
    ] {
        if micros >= size && micros.is_multiple_of(size) {
            return format!("{}{unit}", micros / size);
        }
    }
    if micros == 0 {
        "0s".to_owned()
    } else {
        format!("{micros}us")
    }
}

/// Parses a number of bytes: `"1mb"`, `"10gb"`, `"512kb"`, `"4096"` or `"4096b"`. As in redis.conf, `kb`, `mb` and `gb` are
/// powers of 1024 and the case of the letters does not matter.
pub fn parse_bytes(text: &str) -> Result<u64, ValueError> {
    let right = || ValueError::new("a number of bytes such as \"1mb\", \"10gb\" or \"4096\"");
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let size: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1 << 10,
        "mb" => 1 << 20,
        "gb" => 1 << 30,
        "tb" => 1 << 40,
        _ => return Err(right()),
    };
    scaled(number, size).ok_or_else(right)
}

/// `number` (digits with at most one point) times `size`, without floating point. None if it does not fit or a part of
/// one would be left over.
fn scaled(number: &str, size: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) {
        return None;
    }
    // Nine digits are nanounits; more would not change any value that the units above can express.
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let part = if fraction.is_empty() {
        0
    } else {
        let digits: u128 = fraction.parse().ok()?;
        let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
        let product = digits * u128::from(size);
        if !product.is_multiple_of(scale) {
            return None;
        }
        u64::try_from(product / scale).ok()?
    };
    whole.checked_mul(size)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("300ms", 300),
            ("1s", 1_000),
            ("1.5s", 1_500),
            ("0.3s", 300),
            ("10m", 600_000),
            ("2h", 7_200_000),
            ("30d", 2_592_000_000),
            ("0s", 0),
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration, Duration::from_millis(millis), "{text}");
            assert_eq!(
                parse_duration(&format_duration(duration)),
                Ok(duration),
                "{text}"
            );
        }
        for text in [
            "",
            "1",
            "s",
            "1 fortnight",
            "-1s",
            "1.s",
            ".5s",
            "1.2.3s",
            "1e3s",
            "99999999999999d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("1mb", 1 << 20),
            ("1.5kb", 1536),
            ("10GB", 10 << 30),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "mb", "1 mile", "-1", "0.1b", "99999999tb"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn windows_contain_their_start_and_may_span_midnight() {
        let window: Window = "02:00-05:00".parse().unwrap();
        assert_eq!(window.to_string(), "02:00-05:00");
        for (minute, inside) in [(119, false), (120, true), (299, true), (300, false)] {
            assert_eq!(window.contains(MinuteOfDay(minute)), inside, "{minute}");
        }
        let night: Window = "23:30-00:30".parse().unwrap();
        for (minute, inside) in [(1409, false), (1410, true), (0, true), (30, false)] {
            assert_eq!(night.contains(MinuteOfDay(minute)), inside, "{minute}");
        }
        for text in [
            "",
            "2-5",
            "02:00",
            "24:00-01:00",
            "02:60-03:00",
            "02:00-02:00",
        ] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }

    #[test]
    fn prefixes() {
        for (text, shown) in [
            ("10.0.0.1/24", "10.0.0.1/24"),
            ("10.0.0.1", "10.0.0.1/32"),
            ("fe80::1", "fe80::1/128"),
            ("2001:db8::1/64", "2001:db8::1/64"),
        ] {
            assert_eq!(text.parse::<IpPrefix>().unwrap().to_string(), shown);
        }
        for text in [
            "",
            "10.0.0.1/33",
            "::1/129",
            "10.0.0.1/",
            "10.0.0/24",
            "eth0",
        ] {
            assert!(text.parse::<IpPrefix>().is_err(), "{text}");
        }
    }
}
