//! What the driver reports about itself, a session and a buffer.

use crate::error::{Error, Result};
use mapbuf_abi::{bit, feature, Cache, Info, Kind, Method, Query, ADDRESS_HIDDEN, NAME_LEN};

/// What the driver supports, and its limits (`QUERY`).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct DriverInfo {
    /// The version of its interface.
    pub abi_version: u32,
    /// Bytes in a page; the unit of offsets and lengths.
    pub page_size: u32,
    /// Bits of [`feature`].
    pub features: u64,
    /// The kinds of memory that this node provides.
    pub kinds: Vec<Kind>,
    /// The methods that [`MapOptions::method`](crate::MapOptions::method) accepts.
    pub methods: Vec<Method>,
    /// The largest buffer that the limits allow, in bytes.
    pub max_buffer_bytes: u64,
    /// The limit of all buffers together, in bytes.
    pub max_bytes: u64,
    /// The limit of one user's buffers together, in bytes.
    pub max_bytes_per_user: u64,
    /// Bytes charged now, for all users.
    pub used_bytes: u64,
    /// Bytes charged now to the user who opened the device.
    pub used_bytes_by_user: u64,
    /// Buffers that exist now, including those whose id was freed.
    pub buffers: u64,
}

impl DriverInfo {
    /// Whether contiguous and coherent buffers can come from a CMA area.
    pub fn has_cma(&self) -> bool {
        self.features & feature::CMA != 0
    }
}

impl From<Query> for DriverInfo {
    fn from(query: Query) -> Self {
        Self {
            abi_version: query.abi_version,
            page_size: query.page_size,
            features: query.features,
            kinds: of_mask(Kind::ALL, query.kinds, Kind::number),
            methods: of_mask(Method::ALL, query.methods, Method::number),
            max_buffer_bytes: query.max_buffer_bytes,
            max_bytes: query.max_bytes,
            max_bytes_per_user: query.max_bytes_per_user,
            used_bytes: query.used_bytes,
            used_bytes_by_user: query.used_bytes_by_user,
            buffers: query.buffers,
        }
    }
}

/// Those of `all` whose bit is set. Bits that this library does not know are left out.
fn of_mask<T: Copy>(all: &[T], mask: u32, number: fn(T) -> u32) -> Vec<T> {
    all.iter()
        .copied()
        .filter(|&value| mask & bit(number(value)) != 0)
        .collect()
}

/// What a buffer is (`INFO`).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct BufferInfo {
    /// Its id in this session; 0 on a named node.
    pub id: u32,
    /// Its kind of memory.
    pub kind: Kind,
    /// Its cache mode.
    pub cache: Cache,
    /// Its size in bytes, whole pages.
    pub bytes: u64,
    /// Physically contiguous runs in it.
    pub segments: u32,
    /// Virtual memory areas that map it now, in any process.
    pub mappings: u32,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its `mmap` offset in bytes for the method `auto`; 0 on a named node.
    pub mmap_offset: u64,
    /// The address of its first byte for the node's device, if it has one that the caller can see.
    pub dma_address: Option<u64>,
    /// Bits of [`traits`](mapbuf_abi::traits).
    pub traits: u32,
    /// Bits in each of the kernel's own accesses, where those must be by words: a region that is not cached, or a BAR.
    pub width: Option<u32>,
}

impl TryFrom<Info> for BufferInfo {
    type Error = Error;

    fn try_from(info: Info) -> Result<Self> {
        let unknown = |what, number| Error::UnknownNumber { what, number };
        Ok(Self {
            id: info.id,
            kind: Kind::from_number(info.kind).ok_or_else(|| unknown("kind", info.kind))?,
            cache: Cache::from_number(info.cache)
                .ok_or_else(|| unknown("cache mode", info.cache))?,
            bytes: info.bytes,
            segments: info.segments,
            mappings: info.mappings,
            name: text_of(&info.name),
            mmap_offset: info.mmap_offset,
            dma_address: (info.dma_address != ADDRESS_HIDDEN).then_some(info.dma_address),
            traits: info.traits,
            width: (info.width != 0).then_some(info.width),
        })
    }
}

/// What a session holds beyond its ids (`INFO` of id 0).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Buffers whose id was freed, and whose memory is still mapped, exported or named.
    pub freed_held: u32,
    /// Bytes in those.
    pub freed_held_bytes: u64,
}

impl From<Info> for SessionInfo {
    fn from(info: Info) -> Self {
        Self {
            freed_held: info.freed_held,
            freed_held_bytes: info.freed_held_bytes,
        }
    }
}

/// A name padded with zeros, as text; `None` when it is empty.
pub(crate) fn text_of(name: &[u8; NAME_LEN]) -> Option<String> {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME_LEN);
    let name = name.get(..end).unwrap_or_default();
    (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_the_first_zero() {
        let mut name = [0; NAME_LEN];
        assert_eq!(text_of(&name), None);
        name[..4].copy_from_slice(b"ring");
        assert_eq!(text_of(&name).as_deref(), Some("ring"));
        assert_eq!(
            text_of(&[b'a'; NAME_LEN]).map(|name| name.len()),
            Some(NAME_LEN)
        );
    }

    #[test]
    fn masks_become_lists() {
        let query = Query {
            kinds: bit(1) | bit(3) | bit(31),
            methods: 1,
            ..Query::default()
        };
        let info = DriverInfo::from(query);
        assert_eq!(info.kinds, [Kind::Vmalloc, Kind::Contiguous]);
        assert_eq!(info.methods, [Method::Auto]);
    }

    #[test]
    fn a_number_of_a_newer_driver_is_an_error() {
        let info = Info {
            kind: 77,
            ..Info::default()
        };
        let error = BufferInfo::try_from(info).unwrap_err();
        assert!(error.to_string().contains("kind number 77"), "{error}");
    }
}
