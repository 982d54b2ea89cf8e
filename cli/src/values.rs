//! Values that several commands take, by their names on the command line.

use clap::ValueEnum;
use mapbuf::{Cache, Kind};

/// Kinds of memory that can be asked for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum KindArg {
    /// Scattered single pages, virtually contiguous in the kernel
    Vmalloc,
    /// Scattered, but in the largest runs that there are
    Pages,
    /// One physically contiguous run
    Contiguous,
    /// One run for DMA (dma_alloc_coherent)
    Coherent,
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Vmalloc => Self::Vmalloc,
            KindArg::Pages => Self::Pages,
            KindArg::Contiguous => Self::Contiguous,
            KindArg::Coherent => Self::Coherent,
        }
    }
}

impl KindArg {
    /// The name of this kind, if it can be asked for.
    pub fn of(kind: Kind) -> Option<Self> {
        let mut all = Self::value_variants().iter().copied();
        all.find(|arg| Kind::from(*arg) == kind)
    }
}

/// Cache modes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CacheArg {
    /// Ordinary write-back memory
    Cached,
    /// Writes are gathered, reads are not cached
    WriteCombined,
    /// Every access goes to memory
    Uncached,
}

impl From<CacheArg> for Cache {
    fn from(cache: CacheArg) -> Self {
        match cache {
            CacheArg::Cached => Self::Cached,
            CacheArg::WriteCombined => Self::WriteCombined,
            CacheArg::Uncached => Self::Uncached,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_cache_modes_have_the_names_of_the_interface() {
        for arg in KindArg::value_variants() {
            let name = arg.to_possible_value().unwrap();
            assert_eq!(Kind::from(*arg).name(), name.get_name());
        }
        for arg in CacheArg::value_variants() {
            let name = arg.to_possible_value().unwrap();
            assert_eq!(Cache::from(*arg).name(), name.get_name());
        }
    }
}
