//! The nodes: they appear by themselves, with the right owner and mode, and say what they are.

use crate::check::{core_refused, elsewhere, fails, Outcome};
use crate::session::{named_path, Session, KINDS};
use crate::sys::{become_user, Errno, PAGE, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{bit, feature, Method, ABI_VERSION, SYSFS_CLASS, SYSTEM_NODE};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

tests! { "nodes":
    BOTH, 20: [
        system_node_is_there_for_root_and_its_group,
        strangers_may_not_open_the_system_node,
        query_tells_what_the_driver_is,
    ];
    STOCK, 20: [
        named_node_has_its_mode_and_owner,
        named_node_keeps_strangers_out,
        sysfs_describes_a_named_buffer,
        sysfs_hides_the_dma_address_from_strangers,
        named_node_goes_with_its_name,
    ];
}

// devtmpfs makes the node with the mode that the class's `devnode` gives (drivers/base/devtmpfs.c, `devtmpfs_create_node`).
fn system_node_is_there_for_root_and_its_group() -> Outcome {
    let node = fs::metadata(SYSTEM_NODE)?;
    check!(
        node.file_type().is_char_device(),
        "{SYSTEM_NODE} is no character device"
    );
    check_eq!(
        node.permissions().mode() & 0o7777,
        0o660,
        "mode of {SYSTEM_NODE}"
    );
    check_eq!((node.uid(), node.gid()), (0, 0), "owner of {SYSTEM_NODE}");
    Ok(())
}

fn strangers_may_not_open_the_system_node() -> Outcome {
    elsewhere(|| {
        become_user(1000, 1000)?;
        fails(Session::open(), libc::EACCES)?;
        fails(Session::open_read_only(), libc::EACCES)
    })
}

fn query_tells_what_the_driver_is() -> Outcome {
    for session in [Session::open()?, Session::open_read_only()?] {
        let query = session.query()?;
        check_eq!(query.abi_version, ABI_VERSION, "abi_version");
        check_eq!(query.page_size as usize, PAGE, "page_size");
        let always = feature::OFFSET | feature::EXPORT | feature::NAME;
        check_eq!(query.features & always, always, "features");
        check_eq!(
            query.features & feature::EXPOSE_DMA,
            0,
            "expose_dma, which nobody set"
        );
        let cma = fs::read_to_string("/proc/cmdline")?.contains("cma=");
        check_eq!(query.features & feature::CMA != 0, cma, "feature CMA");
        let kinds = KINDS.iter().fold(0, |mask, kind| mask | bit(kind.number()));
        check_eq!(query.kinds, kinds, "kinds");
        check!(
            query.methods & bit(Method::Auto.number()) != 0,
            "method auto is missing: {:#x}",
            query.methods
        );
        check_eq!(
            (query.buffers, query.used_bytes, query.used_bytes_by_user),
            (0, 0, 0),
            "what is used"
        );
        check!(
            query.max_bytes > 0 && query.max_bytes_per_user > 0,
            "no limits: {query:?}"
        );
        let most = query.max_bytes.min(query.max_bytes_per_user);
        check!(
            query.max_buffer_bytes > 0 && query.max_buffer_bytes <= most,
            "max_buffer_bytes: {query:?}"
        );
    }
    Ok(())
}

fn named_node_has_its_mode_and_owner() -> Outcome {
    let session = Session::open()?;
    for mode in [0o660, 0o640, 0o444, 0o600, 0o666, 0] {
        let buffer = session.alloc(KINDS[0], PAGE)?;
        session.name(buffer.id, "mode-test", mode)?;
        let node = fs::metadata(named_path("mode-test"))?;
        check!(node.file_type().is_char_device(), "no character device");
        check_eq!(
            node.permissions().mode() & 0o7777,
            mode,
            "mode asked for as {mode:#o}"
        );
        check_eq!((node.uid(), node.gid()), (0, 0), "owner");
        session.unname("mode-test")?;
        session.free(buffer.id)?;
    }
    Ok(())
}

fn named_node_keeps_strangers_out() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(KINDS[0], PAGE)?;
    session.name(buffer.id, "private", 0o640)?;
    let result = elsewhere(|| {
        become_user(1000, 1000)?;
        fails(Session::open_named("private", false), libc::EACCES)?;
        fails(Session::open_named("private", true), libc::EACCES)
    });
    session.unname("private")?;
    result?;
    let buffer = session.alloc(KINDS[0], PAGE)?;
    session.name(buffer.id, "public", 0o644)?;
    let result = elsewhere(|| {
        become_user(1000, 1000)?;
        fails(Session::open_named("public", true), libc::EACCES)?;
        let node = Session::open_named("public", false)?;
        node.map(PAGE, libc::PROT_READ, SHARED, 0)?;
        core_refused(node.map(PAGE, RW, SHARED, 0), libc::EACCES)
    });
    session.unname("public")?;
    result
}

fn attribute(name: &str, attribute: &str) -> Result<String, Errno> {
    Ok(
        fs::read_to_string(format!("{SYSFS_CLASS}/named!{name}/{attribute}"))?
            .trim()
            .to_owned(),
    )
}

fn sysfs_describes_a_named_buffer() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, map) = session.mapped(kind, 3 * PAGE)?;
        session.name(buffer.id, "shown", 0o600)?;
        let seen = (|| {
            check_eq!(attribute("shown", "size")?, (3 * PAGE).to_string(), "size");
            check_eq!(attribute("shown", "kind")?, kind.name(), "kind");
            check_eq!(attribute("shown", "cache")?, "cached", "cache");
            check_eq!(attribute("shown", "mappings")?, "1", "mappings");
            Ok(())
        })();
        session.unname("shown")?;
        seen?;
        check!(
            attribute("shown", "size").is_err(),
            "the attributes stay when the name is gone"
        );
        drop(map);
        session.free(buffer.id)?;
    }
    Ok(())
}

// On the system node a DMA address is the physical one where there is no IOMMU, so it takes CAP_SYS_RAWIO.
fn sysfs_hides_the_dma_address_from_strangers() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(mapbuf_abi::Kind::Coherent, PAGE)?;
    let address = session.segments(buffer.id)?[0].dma_address;
    session.name(buffer.id, "dma", 0o666)?;
    let seen = (|| {
        let shown = attribute("dma", "dma_address")?;
        let number = u64::from_str_radix(shown.trim_start_matches("0x"), 16).ok();
        check_eq!(
            number,
            Some(address),
            "dma_address for root, shown as {shown:?}"
        );
        elsewhere(|| {
            become_user(1000, 1000)?;
            // Unreadable, or readable and silent: both are right.
            let shown = attribute("dma", "dma_address").unwrap_or_default();
            let number = u64::from_str_radix(shown.trim_start_matches("0x"), 16).ok();
            check!(number != Some(address), "a stranger reads {shown}");
            Ok(())
        })
    })();
    session.unname("dma")?;
    seen
}

fn named_node_goes_with_its_name() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(KINDS[0], PAGE)?;
    for _ in 0..3 {
        session.name(buffer.id, "comes-and-goes", 0o600)?;
        check!(
            named_path("comes-and-goes").exists(),
            "the node did not appear"
        );
        let node = Session::open_named("comes-and-goes", true)?;
        session.unname("comes-and-goes")?;
        check!(
            !named_path("comes-and-goes").exists(),
            "the node is still there"
        );
        // What was opened before goes on.
        check_eq!(
            node.info(0)?.bytes as usize,
            PAGE,
            "size through a node that is gone"
        );
    }
    Ok(())
}
