//! Names as allow and block lists have them, the same in every run, and names that jobs ask for.
//!
//! Owns the mixture that every benchmark of matchers shares. Three of five names are registered domains, the rest hosts
//! below them, three to a domain; one in ten is a wildcard. Measures nothing.

use tidegate_policy::DnsName;
use tidegate_policy::compile::block::BlockEntry;

/// A small generator of repeatable randomness (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to before `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }

    /// One of them.
    pub fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// A pronounceable label of 4 to 16 letters and digits.
    pub fn label(&mut self) -> String {
        const SYLLABLES: [&str; 16] = [
            "ka", "lo", "mi", "ter", "net", "soft", "ra", "bu", "x", "on", "al", "ing", "web", "e", "7", "zu",
        ];
        let count = 3 + self.below(4);
        (0..count).map(|_| self.pick(&SYLLABLES)).collect()
    }
}

/// One written name.
#[derive(Debug, Clone)]
pub struct Written {
    /// The name, or what follows `*.`.
    pub name: DnsName,
    /// Whether it is `*.` that.
    pub below: bool,
}

impl Written {
    /// A name that it matches, copied afresh, as from a packet.
    pub fn matched(&self) -> DnsName {
        under(if self.below { &["host"] } else { &[] }, &self.name)
    }

    /// The line of a policy: on port 443.
    pub fn endpoint(&self) -> String {
        let star = if self.below { "*." } else { "" };
        format!("{star}{}:443", self.name)
    }

    /// The entry of a block list.
    pub fn block(&self) -> BlockEntry {
        BlockEntry::Name {
            name: self.name.clone(),
            below: self.below,
        }
    }
}

/// Every name of an endless list, from its beginning. All are distinct but for a few.
pub fn written() -> impl Iterator<Item = Written> {
    const SUFFIXES: [&str; 10] = [
        "com",
        "com",
        "com",
        "com",
        "net",
        "org",
        "example",
        "test",
        "co.example",
        "com.test",
    ];
    const HOSTS: [&str; 6] = ["www", "api", "cdn", "static", "eu-west-1", "download"];
    let mut random = Random(7);
    let mut domain = String::from("first.example");
    (0_usize..).map(move |at| {
        let name = match at % 5 {
            0..=2 => {
                domain = format!("{}{}.{}", random.label(), at / 5, random.pick(&SUFFIXES));
                domain.clone()
            }
            3 => format!("{}.{domain}", random.pick(&HOSTS)),
            _ => format!("{}.{}.{domain}", random.label(), random.pick(&HOSTS)),
        };
        Written {
            name: DnsName::parse(&name).expect("a name made of labels"),
            below: at % 10 == 9,
        }
    })
}

/// A fresh copy of `name` with labels before it.
pub fn under(labels: &[&str], name: &DnsName) -> DnsName {
    let before = labels.iter().map(|label| label.as_bytes());
    DnsName::from_labels(before.chain(name.labels())).expect("a short name")
}

/// A name that no list matches, though its suffix is everywhere.
pub fn unlisted(random: &mut Random) -> DnsName {
    let name = format!("www.{}-not-listed.com", random.label());
    DnsName::parse(&name).expect("a short name")
}
