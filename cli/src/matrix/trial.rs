//! Trying one cell.

use super::{
    answer::Answer,
    subjects::{Subject, Touch},
};
use mapbuf::{Access, CoreRefusal, MapOptions, Mapping};
use mapbuf_policy::plan::{Request, Sharing};

/// Of a larger part, not every page is looked at.
const ALL_PAGES: u64 = 64;
const STEP: usize = 61;

/// Maps a part as it is asked for, and looks at what comes of it.
pub fn map(subject: &Subject, request: &Request) -> mapbuf::Result<Answer> {
    let page = rustix::param::page_size() as u64;
    let bytes = usize::try_from(request.pages * page).unwrap_or(usize::MAX);
    let options = MapOptions::new()
        .method(request.method)
        .offset(request.page * page)
        .len(bytes);
    let options = match request.sharing {
        Sharing::Shared => options,
        Sharing::PrivateReadOnly => options.private().read_only(),
        Sharing::PrivateWritable => options.private(),
    };
    let mut mapping = match options.map(&subject.buffer) {
        Ok(mapping) => mapping,
        Err(error) => return Ok(Answer::from_error(&error)),
    };
    let seen = Look {
        subject,
        mapping: &mapping,
        first: request.page,
        page,
    };
    let wrong = match (subject.touch, request.sharing) {
        (Touch::Nothing, _) => None,
        (Touch::All, Sharing::Shared) => seen.is_shared()?,
        (Touch::All, Sharing::PrivateReadOnly) => seen.follows("private, read-only")?,
        (Touch::All, Sharing::PrivateWritable) => seen.is_a_copy()?,
    };
    let sealed = match mapping.protect(Access::ReadWrite) {
        Ok(()) => false,
        Err(error) if error.core_refusal() == Some(&CoreRefusal::NeverWritable) => true,
        Err(error) => return Ok(Answer::Wrong(format!("mprotect: {error}"))),
    };
    Ok(match wrong {
        Some(wrong) => Answer::Wrong(wrong),
        None => Answer::Maps { sealed },
    })
}

/// A mapping, and the part of a buffer that it must show.
struct Look<'a> {
    subject: &'a Subject,
    mapping: &'a Mapping,
    first: u64,
    page: u64,
}

impl Look<'_> {
    /// Pages of the mapping that are looked at.
    fn pages(&self) -> impl Iterator<Item = u64> {
        let pages = self.mapping.len() as u64 / self.page;
        let step = if pages <= ALL_PAGES { 1 } else { STEP };
        (0..pages)
            .step_by(step)
            .chain((step > 1).then_some(pages - 1))
    }

    /// A word for a page of the buffer that no other page has.
    fn word(&self, salt: u64, page: u64) -> u64 {
        (salt << 56) | (self.first + page)
    }

    fn place(&self, page: u64) -> usize {
        usize::try_from(page * self.page).unwrap_or(usize::MAX)
    }

    /// Writes by the kernel's own view.
    fn kernel_writes(&self, salt: u64) -> mapbuf::Result<()> {
        for page in self.pages() {
            self.subject.buffer.write_at(
                (self.first + page) * self.page,
                &self.word(salt, page).to_ne_bytes(),
            )?;
        }
        Ok(())
    }

    /// Writes through the mapping.
    fn user_writes(&self, salt: u64) -> mapbuf::Result<()> {
        for page in self.pages() {
            self.mapping
                .write(self.place(page), self.word(salt, page))?;
        }
        Ok(())
    }

    /// The first page that the kernel's own view shows otherwise.
    fn kernel_sees(&self, salt: u64, what: &str) -> mapbuf::Result<Option<String>> {
        for page in self.pages() {
            let mut bytes = [0; 8];
            self.subject
                .buffer
                .read_at((self.first + page) * self.page, &mut bytes)?;
            let word = u64::from_ne_bytes(bytes);
            if word != self.word(salt, page) {
                let text = format!("{what}: the kernel sees {word:#x} in page {page}");
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    /// The first page that the mapping shows otherwise.
    fn user_sees(&self, salt: u64, what: &str) -> mapbuf::Result<Option<String>> {
        for page in self.pages() {
            let word = self.mapping.read::<u64>(self.place(page))?;
            if word != self.word(salt, page) {
                return Ok(Some(format!(
                    "{what}: the mapping shows {word:#x} in page {page}"
                )));
            }
        }
        Ok(None)
    }

    /// What the kernel writes, the mapping shows.
    fn follows(&self, what: &str) -> mapbuf::Result<Option<String>> {
        for salt in [0x11, 0x22] {
            self.kernel_writes(salt)?;
            if let Some(wrong) = self.user_sees(salt, what)? {
                return Ok(Some(wrong));
            }
        }
        Ok(None)
    }

    /// And the other way round.
    fn is_shared(&self) -> mapbuf::Result<Option<String>> {
        if let Some(wrong) = self.follows("shared")? {
            return Ok(Some(wrong));
        }
        self.user_writes(0x33)?;
        self.kernel_sees(0x33, "written through a shared mapping")
    }

    /// What is written stays in the mapping.
    fn is_a_copy(&self) -> mapbuf::Result<Option<String>> {
        self.kernel_writes(0x44)?;
        if let Some(wrong) = self.user_sees(0x44, "private, writable")? {
            return Ok(Some(wrong));
        }
        self.user_writes(0x55)?;
        if let Some(wrong) = self.kernel_sees(0x44, "written through a private mapping")? {
            return Ok(Some(wrong));
        }
        self.user_sees(0x55, "a private copy")
    }
}
