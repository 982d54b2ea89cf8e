// The page "The table, alive": lists and fields in, the answer of policy/ (table-wasm.js) out.
"use strict";

(() => {
    const place = document.getElementById("table-alive");
    if (!place || !window.mapbufTableBytes || !window.WebAssembly) {
        return;
    }
    // Bytes on the page: no request, so that a file from the disk can do it too.
    const rules = new WebAssembly.Instance(new WebAssembly.Module(window.mapbufTableBytes), {}).exports;
    const said = () => {
        const bytes = new Uint8Array(rules.memory.buffer, rules.text(), rules.text_length());
        return JSON.parse(new TextDecoder().decode(bytes));
    };
    const PAGE = 4096;

    /// What the table says of a cell; the names are those of `mapbuf matrix --json`.
    const ask = (cell) => {
        const rights = (cell.admin ? 1 : 0) | (cell.device ? 2 : 0);
        const numbers = [cell.kind, cell.cache, cell.method, cell.sharing, cell.size, cell.page, cell.pages, rights];
        return rules.table(...numbers) ? said() : null;
    };

    rules.list();
    const lists = said();

    const make = (name, properties, ...children) => {
        const node = Object.assign(document.createElement(name), properties);
        node.append(...children);
        return node;
    };
    const fields = {};
    const form = make("form", { className: "table-form", onsubmit: (event) => event.preventDefault() });
    const add = (key, title, field) => {
        field.id = `table-${key}`;
        field.name = key;
        fields[key] = field;
        form.append(make("label", { htmlFor: field.id }, make("span", {}, title), field));
    };
    const choice = (key, title) => {
        const options = lists[key].map(([number, name]) => make("option", { value: number }, name));
        add(key, title, make("select", {}, ...options));
    };
    const count = (key, title, value, least) => {
        add(key, title, make("input", { type: "number", min: least, max: 1 << 20, step: 1, value }));
    };
    const tick = (key, title) => add(key, title, make("input", { type: "checkbox" }));
    choice("kind", "memory");
    choice("cache", "cache mode");
    choice("method", "method");
    choice("sharing", "mapped");
    count("size", "pages in the buffer", 16, 1);
    count("page", "first page mapped", 0, 0);
    count("pages", "pages mapped", 16, 1);
    tick("admin", "with CAP_SYS_ADMIN");
    tick("device", "the region is a device's");
    const answer = make("output", { className: "table-answer" });
    answer.setAttribute("aria-live", "polite");
    for (const key of Object.keys(fields)) {
        answer.htmlFor.add(`table-${key}`);
    }
    // The book turns its pages by the arrow keys, which belong to the lists here.
    form.addEventListener("keydown", (event) => event.stopPropagation());

    const cell = () => {
        const values = {};
        for (const [key, field] of Object.entries(fields)) {
            values[key] = field.type === "checkbox" ? field.checked : Number(field.value);
        }
        return values;
    };
    const whole = (value, least) => Number.isInteger(value) && value >= least && value <= 1 << 20;
    const row = (title, ...what) => [make("dt", {}, title), make("dd", {}, ...what)];
    const code = (text) => make("code", {}, text);
    const ERRNO = { 1: "EPERM", 12: "ENOMEM", 13: "EACCES", 22: "EINVAL", 95: "EOPNOTSUPP" };

    /// The chapter that begins with an example.
    const CHAPTERS = {
        remap_pfn_range: "remap_pfn_range", maps0: "remap_pfn_range", vm_insert_pages: "vm_insert_pages",
        vm_map_pages: "vm_insert_pages", remap_vmalloc_range: "remap_vmalloc_range",
        dma_mmap_coherent: "dma_mmap_coherent", vm_iomap_memory: "vm_iomap_memory",
        io_remap_pfn_range: "vm_iomap_memory", fault_page: "fault-page", fault_pfn: "fault-pfn",
        fault_huge: "fault-huge",
    };

    const commands = (values) => {
        const name = (key) => lists[key].find(([number]) => number === values[key])[1];
        const cache = name("cache") === "cached" ? "" : ` --cache ${name("cache")}`;
        const shared = values.sharing === 0;
        const writes = values.sharing !== 1;
        const prot = writes ? "PROT_READ | PROT_WRITE" : "PROT_READ";
        const mmap = `mmap(NULL, ${values.pages * PAGE}, ${prot}, ${shared ? "MAP_SHARED" : "MAP_PRIVATE"}, fd, `;
        if (name("kind") === "region") {
            return [
                "mapbuf regions     # those that were declared when the module was loaded: regions=NAME:START:SIZE:ram",
                `int fd = open("/dev/mapbuf/named/NAME", ${writes && shared ? "O_RDWR" : "O_RDONLY"});\n` +
                `${mmap}${values.page * PAGE});`,
            ];
        }
        return [
            `mapbuf create demo --kind ${name("kind")}${cache} --size ${values.size * PAGE}\n` +
            `mapbuf show ${name("method") === "auto" ? "" : name("method") + " "}--kind ${name("kind")}${cache}`,
            `struct mapbuf_offset o = { .size = sizeof(o), .id = id, .method = ${values.method} };   /* ${name("method")} */\n` +
            "ioctl(fd, MAPBUF_IOCTL_OFFSET, &o);\n" +
            `${mmap}(off_t)o.mmap_offset + ${values.page * PAGE});`,
        ];
    };

    const show = () => {
        const values = cell();
        fields.device.disabled = lists.kind.find(([number]) => number === values.kind)[1] !== "region";
        const wrong = !whole(values.size, 1) || !whole(values.page, 0) || !whole(values.pages, 1);
        const told = wrong ? null : ask(values);
        if (!told) {
            answer.dataset.answer = "none";
            answer.dataset.reason = "";
            answer.replaceChildren("Pages are whole numbers: up to 1048576, and at least one of them is mapped.");
            return;
        }
        const rows = [];
        if (told.maps) {
            answer.dataset.answer = "maps";
            answer.dataset.reason = "";
            rows.push(...row("maps", "by ", code(told.function)));
            if (told.sealed) {
                rows.push(...row("sealed", code("VM_MAYWRITE"), " is cleared: it can never become writable, so it is not copy-on-write"));
            }
            rows.push(...row("entries", told.method.startsWith("fault") ? "made at the first touch" : "made at once, in mmap"));
            const example = make("a", { href: `${CHAPTERS[told.example]}.html` }, `${told.example}.c`);
            rows.push(...row("in a driver of yours", example));
        } else {
            answer.dataset.answer = "refused";
            answer.dataset.reason = told.reason;
            const reason = make("a", { href: `reasons.html#${told.reason.toLowerCase()}` }, told.reason);
            rows.push(...row("refused", `${ERRNO[told.errno] || "errno " + told.errno}, reason ${told.number}: `, reason));
            rows.push(...row("what", told.sentence));
            rows.push(...row("next", told.remedy));
            if (told.kernel) {
                rows.push(...row("in the kernel", told.kernel));
            }
        }
        rows.push(...row("memory", `${values.size} pages in ${told.runs} physical ${told.runs === 1 ? "run" : "runs"}` +
            (told.paged ? "" : ", without pages of its own")));
        const [mapbuf, c] = commands(values);
        rows.push(...row("mapbuf", make("pre", {}, code(mapbuf))), ...row("C", make("pre", {}, code(c))));
        answer.replaceChildren(make("dl", {}, ...rows));
    };
    form.addEventListener("input", show);
    place.replaceChildren(form, answer);
    // Question B's driver, to begin with.
    Object.assign(fields.method, { value: 2 });
    Object.assign(fields.sharing, { value: 2 });
    show();
    window.mapbufTable = { ask, lists };
})();
