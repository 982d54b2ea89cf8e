//! The fields of a buffer in a file, each read as the command line reads it.

use super::accounts;
use crate::{
    commands::create::{octal, power_of_two, NumaNode},
    hex,
    platform::DeviceName,
    values::{CacheArg, KindArg},
};
use clap::ValueEnum;
use mapbuf::Kind;
use serde::{
    de::{Error, Visitor},
    Deserialize, Deserializer,
};
use std::{fmt, marker::PhantomData};
use toml::Spanned;

/// A buffer as a file describes it. What is left out is as `mapbuf create` has it, and is not compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Entry {
    /// Its name.
    pub name: Spanned<String>,
    /// Its kind of memory.
    pub kind: Option<Field<Memory>>,
    /// Its size in bytes.
    pub size: Option<Field<Size>>,
    /// The owner of the node.
    pub owner: Option<Field<Owner>>,
    /// The group of the node.
    pub group: Option<Field<Group>>,
    /// The node's permission bits.
    pub mode: Option<Field<Mode>>,
    /// The cache mode of every mapping.
    pub cache: Option<Field<CacheArg>>,
    /// What stands at the start of each page.
    pub fill_pages: Option<Field<hex::Bytes>>,
    /// The device that it is for.
    pub device: Option<Field<DeviceName>>,
    /// Addresses below this one only.
    pub below: Option<Field<Size>>,
    /// The power of 2 that the first address is a multiple of.
    pub align: Option<Field<Power>>,
    /// The power of 2 whose multiples no run crosses.
    pub boundary: Option<Field<Power>>,
    /// Where the memory is to come from.
    pub numa_node: Option<Field<NumaNode>>,
}

/// A field, by the rules of its type.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Field<T>(pub T);

/// What can stand in a field.
pub trait Value: Sized {
    /// What to write there.
    const WRITE: &'static str;

    /// Reads a string.
    fn of_text(text: &str) -> Result<Self, String>;

    /// Reads a number, where a number says all.
    fn of_number(_: u64) -> Option<Self> {
        None
    }
}

impl<'de, T: Value> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);

        impl<T: Value> Visitor<'_> for Reader<T> {
            type Value = Field<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::WRITE)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                T::of_text(text).map(Field).map_err(E::custom)
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
                let value = u64::try_from(number).ok().and_then(T::of_number);
                value.map(Field).ok_or_else(|| {
                    E::custom(format!("{number} does not fit here; write {}", T::WRITE))
                })
            }
        }

        from.deserialize_any(Reader(PhantomData))
    }
}

/// What a buffer is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Memory {
    /// Memory that is allocated.
    Allocated(Kind),
    /// A region that the module's parameter declares.
    Region,
}

impl Memory {
    /// The kind, as the driver lists it.
    pub fn kind(self) -> Kind {
        match self {
            Self::Allocated(kind) => kind,
            Self::Region => Kind::Region,
        }
    }
}

impl Value for Memory {
    const WRITE: &'static str =
        "a kind: \"vmalloc\", \"pages\", \"contiguous\", \"coherent\" or \"region\"";

    fn of_text(text: &str) -> Result<Self, String> {
        if text == Kind::Region.name() {
            return Ok(Self::Region);
        }
        KindArg::from_str(text, false)
            .map(|kind| Self::Allocated(kind.into()))
            .map_err(|_| format!("'{text}' is no kind of memory; write {}", Self::WRITE))
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size(pub u64);

impl Value for Size {
    const WRITE: &'static str = "a size in bytes, or with a unit: \"64K\"";

    fn of_text(text: &str) -> Result<Self, String> {
        mapbuf::parse_size(text)
            .map(Self)
            .map_err(|error| error.to_string())
    }

    fn of_number(number: u64) -> Option<Self> {
        Some(Self(number))
    }
}

/// The exponent of a power of 2.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Power(pub u32);

impl Value for Power {
    const WRITE: &'static str = "a power of 2: \"64K\"";

    fn of_text(text: &str) -> Result<Self, String> {
        power_of_two(text).map(Self)
    }

    fn of_number(number: u64) -> Option<Self> {
        number.is_power_of_two().then(|| Self(number.ilog2()))
    }
}

/// Permission bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mode(pub u32);

impl Mode {
    /// What a node has whose mode nobody gave.
    pub const USUAL: Self = Self(0o660);
}

// A number would be decimal, which nobody means here.
impl Value for Mode {
    const WRITE: &'static str = "permission bits as a string of octal digits: \"0640\"";

    fn of_text(text: &str) -> Result<Self, String> {
        let mode = octal(text)?;
        mapbuf_policy::request::mode(mode)
            .map(|_| Self(mode))
            .map_err(|refusal| format!("{refusal}; {}", refusal.reason.text().remedy))
    }
}

/// The number of a user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Owner(pub u32);

impl Value for Owner {
    const WRITE: &'static str = "the name or the number of a user";

    fn of_text(text: &str) -> Result<Self, String> {
        accounts::number(accounts::USERS, text).map(Self)
    }

    fn of_number(number: u64) -> Option<Self> {
        accounts::valid(number).map(Self)
    }
}

/// The number of a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Group(pub u32);

impl Value for Group {
    const WRITE: &'static str = "the name or the number of a group";

    fn of_text(text: &str) -> Result<Self, String> {
        accounts::number(accounts::GROUPS, text).map(Self)
    }

    fn of_number(number: u64) -> Option<Self> {
        accounts::valid(number).map(Self)
    }
}

impl Value for CacheArg {
    const WRITE: &'static str = "a cache mode: \"cached\", \"write-combined\" or \"uncached\"";

    fn of_text(text: &str) -> Result<Self, String> {
        Self::from_str(text, false)
            .map_err(|_| format!("'{text}' is no cache mode; write {}", Self::WRITE))
    }
}

impl Value for hex::Bytes {
    const WRITE: &'static str = "bytes as a string of hexadecimal digits: \"ddccbbaa\"";

    fn of_text(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

impl Value for DeviceName {
    const WRITE: &'static str =
        "the address of a PCI device, \"0000:00:04.0\", or the name of a platform device";

    fn of_text(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

impl Value for NumaNode {
    const WRITE: &'static str = "the number of a NUMA node, or \"device\"";

    fn of_text(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn of_number(number: u64) -> Option<Self> {
        u32::try_from(number).ok().map(Self::Number)
    }
}
