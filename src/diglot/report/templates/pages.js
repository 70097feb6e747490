(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("links").textContent);
  const links = data.links;
  const status = document.getElementById("status");
  const threads = document.getElementById("threads");

  // Every linked line by its key; a source line may be shown more than once.
  const byKey = new Map();
  for (const line of document.querySelectorAll(".ln.linked")) {
    const key = line.dataset.l;
    if (byKey.has(key)) byKey.get(key).push(line);
    else byKey.set(key, [line]);
  }
  const others = (key) => links[key] || [];
  const elements = (keys) => keys.flatMap((key) => byKey.get(key) || []);
  const isLeft = (line) => line.dataset.l[0] === "p";

  let lit = [];
  let current = null;
  const pinned = new Set();

  function place(key) {
    const cut = key[0] === "k" ? 1 : key.indexOf(":") + 1;
    return data.files[key.slice(0, cut)] + ":" + key.slice(cut);
  }

  // Lines that belong together: the line itself, what it became, and what else became the same.
  function family(key) {
    const opposite = others(key);
    return { own: [key], opposite };
  }

  function paint(key) {
    for (const line of lit) line.classList.remove("hl");
    lit = [];
    current = key;
    if (key === null) {
      status.textContent = "";
      draw();
      return;
    }
    const { own, opposite } = family(key);
    lit = elements(own.concat(opposite));
    for (const line of lit) line.classList.add("hl");
    status.textContent = place(key) + "  ↔  " + opposite.map(place).join(", ");
    draw();
  }

  function togglePin(key) {
    if (pinned.has(key)) pinned.delete(key);
    else pinned.add(key);
    paintPins();
  }

  function paintPins() {
    for (const line of document.querySelectorAll(".ln.pin")) {
      line.classList.remove("pin");
      line.querySelector(".no").setAttribute("aria-pressed", "false");
    }
    for (const key of pinned) {
      for (const line of elements([key].concat(others(key)))) line.classList.add("pin");
      for (const line of elements([key])) line.querySelector(".no").setAttribute("aria-pressed", "true");
    }
    draw();
  }

  // Ribbons across the spine between lines that belong together.
  function ribbon(from, to) {
    const a = from.getBoundingClientRect();
    const b = to.getBoundingClientRect();
    if (!a.height || !b.height || b.left < a.right) return "";
    if (Math.max(a.bottom, b.bottom) < 0 || Math.min(a.top, b.top) > innerHeight) return "";
    const mid = (a.right + b.left) / 2;
    return `M${a.right} ${a.top}C${mid} ${a.top} ${mid} ${b.top} ${b.left} ${b.top}V${b.bottom}` +
      `C${mid} ${b.bottom} ${mid} ${a.bottom} ${a.right} ${a.bottom}Z`;
  }

  let waiting = false;
  function draw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const keys = new Set(pinned);
      if (current !== null) keys.add(current);
      const paths = [];
      for (const key of keys) {
        for (const line of elements([key])) {
          // A line that is shown twice is tied to its counterpart within the same spread.
          const spread = line.closest(".spread");
          for (const other of elements(others(key))) {
            if (other.closest(".spread") !== spread) continue;
            const shape = isLeft(line) ? ribbon(line, other) : ribbon(other, line);
            if (shape) paths.push(shape);
          }
        }
      }
      threads.replaceChildren(...paths.map((shape) => {
        const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
        path.setAttribute("d", shape);
        return path;
      }));
    });
  }
  addEventListener("scroll", () => { if (current !== null || pinned.size) draw(); }, { passive: true });
  addEventListener("resize", draw);

  const pages = document.getElementById("pages");
  const lineOf = (event) => event.target.closest ? event.target.closest(".ln.linked") : null;
  pages.addEventListener("mouseover", (event) => {
    const line = lineOf(event);
    const key = line ? line.dataset.l : null;
    if (key !== current) paint(key);
    const note = event.target.closest(".note");
    lightNote(note);
  });
  pages.addEventListener("mouseleave", () => { paint(null); lightNote(null); });
  pages.addEventListener("focusin", (event) => {
    const line = lineOf(event);
    if (line) paint(line.dataset.l);
  });
  pages.addEventListener("focusout", (event) => {
    if (lineOf(event) && !event.relatedTarget) paint(null);
  });
  pages.addEventListener("click", (event) => {
    if (event.target.closest("a, summary")) return;
    const line = lineOf(event);
    // Selecting text to copy it is no wish to pin a line.
    if (!line || String(getSelection())) return;
    togglePin(line.dataset.l);
  });

  let litNote = [];
  function lightNote(note) {
    for (const line of litNote) line.classList.remove("hl");
    litNote = [];
    if (!note) return;
    for (const key of note.dataset.lines.split(" ")) {
      const line = key && document.getElementById(key);
      if (line) { line.classList.add("hl"); litNote.push(line); }
    }
  }

  // Margin notes stand beside their line and move down only as far as the note above needs.
  const wide = matchMedia("screen and (min-width: 1480px)");
  function settle(spread) {
    const notes = [...spread.querySelectorAll(".page.right .note")];
    if (!notes.length) return;
    spread.classList.toggle("placed", wide.matches);
    spread.style.minHeight = "";
    if (!wide.matches) return;
    const top = spread.getBoundingClientRect().top;
    let floor = 0;
    // Read everything first, write afterwards: one layout instead of one per note.
    const spots = notes.map((note) => {
      let line = note.previousElementSibling;
      while (line && !line.classList.contains("ln")) line = line.previousElementSibling;
      return { note, at: line ? line.getBoundingClientRect().top - top : 0, height: note.offsetHeight };
    });
    for (const { note, at, height } of spots) {
      const place = Math.max(at, floor);
      note.style.top = place + "px";
      floor = place + height + 14;
    }
    if (floor > spread.offsetHeight) spread.style.minHeight = floor + "px";
  }
  const near = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) near.delete(target);
      else { near.add(target); settle(target); }
    }
  }, { rootMargin: "800px" });
  for (const spread of document.querySelectorAll(".spread:not(.plainer)")) {
    watcher.observe(spread);
    spread.addEventListener("toggle", () => settle(spread), true);
  }
  addEventListener("resize", () => near.forEach(settle));

  // One stop of the Tab key per listing; the arrows go on from there.
  const stops = [...document.querySelectorAll(".code")].map((code) => [...code.querySelectorAll("button.no")]);
  for (const buttons of stops) if (buttons.length) buttons[0].tabIndex = 0;
  for (const link of document.querySelectorAll("[data-goto]")) {
    link.addEventListener("click", () => {
      const line = document.getElementById(link.dataset.goto);
      const fold = line && line.closest("details");
      if (fold) fold.open = true;
    });
  }
  function go(line) {
    const fold = line.closest("details");
    if (fold) fold.open = true;
    const button = line.querySelector("button.no");
    for (const sibling of line.parentElement.querySelectorAll('button.no[tabindex="0"]')) sibling.tabIndex = -1;
    button.tabIndex = 0;
    button.focus({ preventScroll: true });
    line.scrollIntoView({ block: "nearest" });
  }
  function step(button, by) {
    const side = isLeft(button.closest(".ln")) ? ".page.left" : ".page.right";
    const all = [...pages.querySelectorAll(side + " button.no")].filter((item) => item.offsetParent !== null);
    const next = all[all.indexOf(button) + by];
    if (next) go(next.closest(".ln"));
  }
  pages.addEventListener("keydown", (event) => {
    const button = event.target.closest("button.no");
    if (!button || event.altKey || event.ctrlKey || event.metaKey) return;
    const line = button.closest(".ln");
    if (event.key === "ArrowDown") step(button, 1);
    else if (event.key === "ArrowUp") step(button, -1);
    else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      if (isLeft(line) === (event.key === "ArrowLeft")) return;
      const other = elements(others(line.dataset.l))[0];
      if (other) go(other);
    } else return;
    event.preventDefault();
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    pinned.clear();
    paintPins();
    paint(null);
  });
  for (const jump of document.querySelectorAll("[data-goto]")) {
    jump.addEventListener("click", () => { pinned.add(jump.dataset.goto); paintPins(); });
  }

  // Weight table: filter and kind.
  const filter = document.getElementById("weight-filter");
  const rows = [...document.querySelectorAll("#weight-table tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const count = document.getElementById("weight-count");
  function sift() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = document.querySelector('input[name="weight-kind"]:checked');
    const kind = chosen ? chosen.value : "";
    let shown = 0;
    rows.forEach((row, index) => {
      const fits = words.every((word) => texts[index].includes(word)) &&
        (!kind || (kind === "changed" ? "changed" in row.dataset : row.dataset.kind === kind));
      row.hidden = !fits;
      if (fits) shown += 1;
    });
    count.textContent = shown === rows.length ? `${shown} weights` : `${shown} of ${rows.length} weights`;
  }
  filter.addEventListener("input", sift);
  for (const radio of document.querySelectorAll('input[name="weight-kind"]')) radio.addEventListener("change", sift);

  // Tables sort by their headings: ascending, descending, as it was.
  const collator = new Intl.Collator("en", { numeric: true });
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    const value = (row, column) => {
      const cell = row.cells[column];
      return cell.dataset.v !== undefined ? Number(cell.dataset.v) : cell.textContent.trim();
    };
    heads.forEach((head, column) => head.addEventListener("click", () => {
      const order = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")];
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", order);
      const sorted = order === "none" ? original : [...original].sort((one, two) => {
        const a = value(one, column);
        const b = value(two, column);
        const result = typeof a === "number" ? a - b : collator.compare(a, b);
        return order === "ascending" ? result : -result;
      });
      body.append(...sorted);
    }));
  }

  // Colours: as the system has it, light, dark.
  const theme = document.getElementById("theme");
  const themes = ["auto", "light", "dark"];
  const names = { auto: "automatic", light: "light", dark: "dark" };
  function setTheme(name) {
    document.documentElement.dataset.theme = name;
    theme.textContent = { auto: "◐", light: "○", dark: "●" }[name];
    theme.title = "Colours: " + names[name];
    theme.setAttribute("aria-label", theme.title);
  }
  function stored(name) {
    // Some browsers refuse storage to pages opened from disk.
    try {
      if (name) localStorage.setItem("diglot-theme", name);
      return localStorage.getItem("diglot-theme");
    } catch (error) {
      return null;
    }
  }
  const before = stored();
  if (themes.includes(before)) setTheme(before);
  theme.addEventListener("click", () => {
    const next = themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length];
    setTheme(next);
    stored(next);
  });

  // Paper shows everything.
  addEventListener("beforeprint", () => { for (const fold of document.querySelectorAll("details.checks")) fold.open = true; });
})();
