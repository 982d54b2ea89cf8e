//! What may cross threads.

use mapbuf::{
    AllocOptions, Buffer, Device, Error, Export, MapOptions, Mapping, NameOptions, Named,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};

assert_impl_all!(Device: Send, Sync, Clone);
assert_impl_all!(Buffer: Send, Sync);
assert_impl_all!(Named: Send, Sync);
assert_impl_all!(Export: Send, Sync);
assert_impl_all!(Mapping: Send, Sync);
assert_impl_all!(Error: Send, Sync, std::error::Error);
assert_impl_all!(AllocOptions: Send, Sync, Clone);
assert_impl_all!(MapOptions: Send, Sync, Clone);
assert_impl_all!(NameOptions: Send, Sync, Clone);

// A copy would unmap, or free, a second time; a slice would be a reference to memory that others write.
assert_not_impl_any!(Mapping: Clone, AsRef<[u8]>, std::ops::Deref);
assert_not_impl_any!(Buffer: Clone);
