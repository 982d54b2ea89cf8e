// A driver in C and in Rust, one behind the other. The tabs work without this: it keeps the book's own arrow keys from turning
// the page, and shows the same language in every chapter.
(() => {
    const languages = ["c", "rust"];
    const show = (language) => {
        for (const it of document.querySelectorAll(`.tabs > input[id$="-${language}"]`)) {
            it.checked = true;
        }
    };
    document.addEventListener(
        "keydown",
        (event) => {
            if (event.target.matches?.(".tabs > input")) {
                event.stopImmediatePropagation();
            }
        },
        true
    );
    document.addEventListener("change", (event) => {
        if (!event.target.matches?.(".tabs > input")) {
            return;
        }
        const language = languages.find((language) => event.target.id.endsWith(`-${language}`));
        show(language);
        try {
            localStorage.setItem("driver-language", language);
        } catch {
            // A page that was opened from the disk may have no place for it.
        }
    });
    try {
        const language = localStorage.getItem("driver-language");
        if (languages.includes(language)) {
            show(language);
        }
    } catch {
        // The same.
    }
})();
