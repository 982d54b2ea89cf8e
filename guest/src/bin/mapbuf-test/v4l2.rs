//! As much of Video4Linux as the tests need: `include/uapi/linux/videodev2.h`, on 64 bits.

use crate::sys::{self, Errno, Map, Result, RW, SHARED};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;

/// Which way the pictures go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// From the camera into memory: `V4L2_BUF_TYPE_VIDEO_CAPTURE`.
    Capture = 1,
    /// From memory to the screen: `V4L2_BUF_TYPE_VIDEO_OUTPUT`.
    Output = 2,
}

/// Whose memory a queue's buffers are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Memory {
    /// The driver's own: `V4L2_MEMORY_MMAP`.
    Own = 1,
    /// The caller's, by the address at which it is mapped: `V4L2_MEMORY_USERPTR`.
    User = 2,
    /// Whoever's dma-buf is queued: `V4L2_MEMORY_DMABUF`.
    DmaBuf = 4,
}

/// Eight bits of grey for each pixel: `V4L2_PIX_FMT_GREY`.
const GREY: u32 = u32::from_le_bytes(*b"GREY");

const fn both(number: u32, size: u32) -> u32 {
    3 << 30 | size << 16 | (b'V' as u32) << 8 | number
}

const S_FMT: u32 = both(5, 208);
const REQBUFS: u32 = both(8, 20);
const QUERYBUF: u32 = both(9, 88);
const QBUF: u32 = both(15, 88);
const DQBUF: u32 = both(17, 88);
const STREAMON: u32 = 1 << 30 | 4 << 16 | (b'V' as u32) << 8 | 18;
const STREAMOFF: u32 = STREAMON + 1;
const S_CTRL: u32 = both(28, 8);
const S_INPUT: u32 = both(39, 4);
const S_OUTPUT: u32 = both(47, 4);
const S_DV_TIMINGS: u32 = both(87, 132);

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
}

fn get(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// One queue of a video device.
pub struct Queue {
    device: File,
    way: Way,
    memory: Memory,
    /// Bytes of a picture.
    pub bytes: usize,
}

impl Queue {
    /// The queue of `/dev/videoN` for this way.
    pub fn open(number: u32, way: Way) -> Result<Self> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/dev/video{number}"))?;
        Ok(Self {
            device,
            way,
            memory: Memory::Own,
            bytes: 0,
        })
    }

    /// Takes pictures with the webcam that is input 0, so large.
    pub fn webcam(&mut self, size: (u32, u32)) -> Result<()> {
        self.set_number(S_INPUT, 0)?;
        self.set_format(size)
    }

    /// Goes through the HDMI input 1 or output 0, with 640 by 480 points.
    pub fn hdmi(&mut self) -> Result<()> {
        match self.way {
            Way::Capture => self.set_number(S_INPUT, 1)?,
            Way::Output => self.set_number(S_OUTPUT, 0)?,
        }
        // `V4L2_DV_BT_CEA_640X480P59_94` of include/uapi/linux/v4l2-dv-timings.h; the struct is packed, and its first
        // word, the type, 0.
        let mut timings = [0; 132];
        put(&mut timings, 4, 640);
        put(&mut timings, 8, 480);
        put(&mut timings, 20, 25_175_000);
        for (at, value) in (28..).step_by(4).zip([16, 96, 48, 10, 2, 33]) {
            put(&mut timings, at, value);
        }
        sys::ioctl_bytes(&self.device, S_DV_TIMINGS, &mut timings)?;
        self.set_format((640, 480))
    }

    fn set_format(&mut self, (width, height): (u32, u32)) -> Result<()> {
        let mut format = [0; 208];
        put(&mut format, 0, self.way as u32);
        put(&mut format, 8, width);
        put(&mut format, 12, height);
        put(&mut format, 16, GREY);
        // `V4L2_FIELD_NONE`: whole pictures, not every other line.
        put(&mut format, 20, 1);
        sys::ioctl_bytes(&self.device, S_FMT, &mut format)?;
        let set = (get(&format, 8), get(&format, 12), get(&format, 16));
        if set != (width, height, GREY) {
            return Err(Errno(libc::ERANGE));
        }
        self.bytes = get(&format, 28) as usize;
        Ok(())
    }

    fn set_number(&self, request: u32, number: u32) -> Result<()> {
        sys::ioctl_bytes(&self.device, request, &mut number.to_ne_bytes()).map(drop)
    }

    /// Sets a control.
    pub fn control(&self, id: u32, value: u32) -> Result<()> {
        let mut control = [0; 8];
        put(&mut control, 0, id);
        put(&mut control, 4, value);
        sys::ioctl_bytes(&self.device, S_CTRL, &mut control).map(drop)
    }

    /// Asks for places for so many pictures; 0 gives them back, with all that was taken for them.
    pub fn request(&mut self, memory: Memory, count: u32) -> Result<u32> {
        let mut request = [0; 20];
        put(&mut request, 0, count);
        put(&mut request, 4, self.way as u32);
        put(&mut request, 8, memory as u32);
        sys::ioctl_bytes(&self.device, REQBUFS, &mut request)?;
        self.memory = memory;
        Ok(get(&request, 0))
    }

    fn buffer(&self, place: u32) -> [u8; 88] {
        let mut buffer = [0; 88];
        put(&mut buffer, 0, place);
        put(&mut buffer, 4, self.way as u32);
        put(&mut buffer, 60, self.memory as u32);
        buffer
    }

    /// Maps a place whose memory is the driver's own.
    pub fn map(&self, place: u32) -> Result<Map> {
        let mut buffer = self.buffer(place);
        sys::ioctl_bytes(&self.device, QUERYBUF, &mut buffer)?;
        let (offset, length) = (get(&buffer, 64), get(&buffer, 72));
        Map::new(&self.device, length as usize, RW, SHARED, offset.into())
    }

    /// Hands a place to the driver, with the memory for it if that is mapped here and not the driver's own.
    pub fn queue_mapped(&self, place: u32, map: &Map) -> Result<()> {
        let mut buffer = self.buffer(place);
        let address = (map.start as u64).to_ne_bytes();
        buffer[64..72].copy_from_slice(&address);
        put(&mut buffer, 72, map.len as u32);
        self.queue_buffer(buffer)
    }

    /// Hands a place to the driver, with a dma-buf for it if its memory is not the driver's own.
    pub fn queue(&self, place: u32, dma_buf: Option<&File>) -> Result<()> {
        let mut buffer = self.buffer(place);
        if let Some(dma_buf) = dma_buf {
            put(&mut buffer, 64, dma_buf.as_raw_fd() as u32);
        }
        self.queue_buffer(buffer)
    }

    fn queue_buffer(&self, mut buffer: [u8; 88]) -> Result<()> {
        if self.way == Way::Output {
            put(&mut buffer, 8, self.bytes as u32);
        }
        sys::ioctl_bytes(&self.device, QBUF, &mut buffer).map(drop)
    }

    /// Waits for a place that the driver is done with; which one.
    pub fn dequeue(&self) -> Result<u32> {
        let mut buffer = self.buffer(0);
        sys::ioctl_bytes(&self.device, DQBUF, &mut buffer)?;
        // V4L2_BUF_FLAG_ERROR
        if get(&buffer, 12) & 0x40 != 0 {
            return Err(Errno(libc::EIO));
        }
        Ok(get(&buffer, 0))
    }

    /// Lets the pictures run.
    pub fn start(&self) -> Result<()> {
        self.set_number(STREAMON, self.way as u32)
    }

    /// Stops them, and takes every place back from the driver.
    pub fn stop(&self) -> Result<()> {
        self.set_number(STREAMOFF, self.way as u32)
    }
}
