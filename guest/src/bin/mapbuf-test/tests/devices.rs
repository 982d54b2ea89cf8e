//! Devices that are bound to the driver.

use crate::check::{refused, Outcome};
use crate::session::Session;
use crate::sys::Plain;
use mapbuf_abi::{
    ioctl, Attach, Bar, Config, Detach, Device, DmaMask, Irq, Operation, Reason, Sync,
};

tests! { "devices":
    STOCK, 60: [
        other_nodes_have_no_device,
    ];
}

/// A request with nothing but its size in it.
macro_rules! request {
    ($name:ident) => {
        $name {
            size: size_of::<$name>() as u32,
            ..Default::default()
        }
    };
}

fn other_nodes_have_no_device() -> Outcome {
    fn refuses<T: Plain>(number: u32, request: T, operation: Operation) -> Outcome {
        let operands = [u64::from(operation.number())];
        let result = Session::open()?.ioctl(number, request);
        refused(result, operation, Reason::NeedsDevice, &operands)
    }
    refuses(ioctl::DEVICE, request!(Device), Operation::Device)?;
    refuses(ioctl::DMA_MASK, request!(DmaMask), Operation::DmaMask)?;
    refuses(ioctl::ATTACH, request!(Attach), Operation::Attach)?;
    refuses(ioctl::DETACH, request!(Detach), Operation::Detach)?;
    refuses(ioctl::SYNC, request!(Sync), Operation::Sync)?;
    refuses(ioctl::IRQ, request!(Irq), Operation::Irq)?;
    refuses(ioctl::CONFIG, request!(Config), Operation::Config)?;
    refuses(ioctl::BAR, request!(Bar), Operation::Bar)
}
