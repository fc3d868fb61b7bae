"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

  const make = (name, content = "", attributes = {}) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...[content].flat());
    return element;
  };

  const say = (element, words) => { if (element.textContent !== words) element.textContent = words; }; // announced once

  // Browsers put back what a reader chose before without telling the page, and only after it has loaded.
  const nowAndOnceRestored = (show) => {
    show();
    addEventListener("pageshow", show);
  };

  // ---- light and dark

  const theme = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const remember = (value) => { try { localStorage.setItem("theme", value); } catch { /* not kept where storage is off */ } };
  const remembered = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const current = () => document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
  const named = () => { theme.textContent = `Switch to ${current() === "dark" ? "light" : "dark"} colours`; };
  if (["light", "dark"].includes(remembered())) document.documentElement.dataset.theme = remembered();
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = current() === "dark" ? "light" : "dark";
    remember(current());
    named();
  });
  dark.addEventListener("change", named);
  theme.hidden = false;
  named();

  // ---- the table of scores

  const value = (cell, numeric) =>
    numeric ? (cell.dataset.value === undefined ? NaN : Number(cell.dataset.value)) : cell.textContent.trim();

  const sort = (table, header, order) => {
    const index = header.cellIndex;
    const numeric = header.dataset.metric !== undefined;
    const sign = order === "ascending" ? 1 : -1;
    const compare = (a, b) => {
      const [first, second] = [value(a.cells[index], numeric), value(b.cells[index], numeric)];
      if (!numeric) return sign * first.localeCompare(second, "en", { numeric: true });
      if (Number.isNaN(first) || Number.isNaN(second)) return Number.isNaN(first) - Number.isNaN(second); // absent last
      return sign * (first - second);
    };
    for (const each of all("thead th", table)) each.setAttribute("aria-sort", each === header ? order : "none");
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  };

  const best = (header) => (header.querySelector(".over")?.textContent.includes("↑") ? "descending" : "ascending");

  const rarest = (table) => {
    const shown = all("thead th[data-metric]", table).filter((header) => !header.hidden && header.dataset.metric !== "cost");
    const groups = shown.filter((header) => header.dataset.metric === shown[0].dataset.metric);
    return groups.find((header) => header.dataset.group === "tail") ?? groups.at(-1);
  };

  const sortByWhatIsShown = (table) => {
    const header = rarest(table);
    if (header && !table.querySelector('thead th:not([hidden], [aria-sort="none"])')) sort(table, header, best(header));
  };

  const sortable = (table) => {
    for (const header of all("thead th", table)) {
      header.querySelector("button").addEventListener("click", () => {
        const now = header.getAttribute("aria-sort");
        const first = best(header);
        const other = first === "ascending" ? "descending" : "ascending";
        sort(table, header, now === first ? other : first);
      });
    }
  };

  const showColumns = (table, metric, groups) => {
    const main = table.dataset.main.trim().split(" ");
    const shown = all("thead th", table).map((header) => {
      const { metric: own, group } = header.dataset;
      if (own === undefined || own === "cost") return true;
      const wanted = metric === "*" || own === metric || (metric === "*main" && main.includes(own));
      return wanted && groups.has(group);
    });
    for (const row of table.rows) {
      let column = 0;
      for (const cell of row.cells) {
        cell.hidden = !shown[column];
        column += cell.colSpan;
      }
    }
  };

  const showRows = (table, form) => {
    const wanted = form.elements.method.value.trim().toLowerCase();
    const guidance = form.elements.guidance.value;
    const status = form.elements.status.value;
    let found = 0;
    for (const row of table.tBodies[0].rows) {
      const fits = row.dataset.method.toLowerCase().includes(wanted)
        && (!guidance || row.dataset.guidance === guidance)
        && (!status || row.dataset.status.split(" ").includes(status));
      row.hidden = !fits;
      found += fits;
    }
    return found;
  };

  for (const board of all(".board")) {
    const table = board.querySelector(".scores");
    const form = board.querySelector("form.controls");
    if (!table) continue;
    sortable(table);
    const update = () => {
      const metric = form.elements.metric.value;
      const groups = new Set(all('[name="group"]:checked', form).map((box) => box.value));
      showColumns(table, metric, groups);
      sortByWhatIsShown(table);
      const found = showRows(table, form);
      say(board.querySelector(".found"),
        found ? `Methods shown: ${found} of ${table.tBodies[0].rows.length}.` : "No method fits these filters.");
      say(board.querySelector(".meaning"), data.metrics[metric] ?? "");
    };
    form.addEventListener("input", update);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    nowAndOnceRestored(update);
  }

  // ---- charts: which metric, and which methods are in colour

  for (const board of all(".board")) {
    const picks = board.querySelector(".picks");
    if (!picks) continue;
    const metric = picks.querySelector("select");
    const show = () => {
      for (const charts of all(".charts", board)) charts.hidden = charts.dataset.metric !== metric.value;
    };
    const colour = () => {
      const pressed = new Set(all('.key[aria-pressed="true"]', picks).map((key) => key.dataset.method));
      const known = new Set(all(".key", picks).map((key) => key.dataset.method));
      for (const series of all(".chart .series", board)) {
        const name = series.dataset.method;
        const off = known.has(name) && !pressed.has(name);
        series.classList.toggle("off", off);
        if (!off) series.parentNode.append(series); // above the others
      }
    };
    metric.addEventListener("input", show);
    for (const key of all(".key", picks)) {
      key.addEventListener("click", () => {
        key.setAttribute("aria-pressed", key.getAttribute("aria-pressed") !== "true");
        colour();
      });
    }
    picks.hidden = false;
    nowAndOnceRestored(show);
    colour();
  }

  // ---- images of a class and seed

  for (const samples of all(".samples")) {
    const { methods, real, generated } = data.samples[samples.dataset.board];
    const [byClass, bySeed] = all("select", samples);
    const show = () => {
      const strips = generated[bySeed.value]?.[byClass.value];
      const put = (figure, source, words) =>
        figure.querySelector(".scroll").replaceChildren(
          source ? make("img", "", { src: source, alt: words }) : make("p", "none on this page", { class: "quiet" }));
      const first = samples.querySelector(".real");
      if (first) put(first, real[byClass.value], `Real images of class ${byClass.value}`);
      all(".strips figure:not(.real)", samples).forEach((figure, number) => {
        put(figure, strips?.[number], `Images of class ${byClass.value} by ${methods[number]}, seed ${bySeed.value}`);
      });
    };
    samples.querySelector(".controls").hidden = false;
    samples.addEventListener("input", show);
    nowAndOnceRestored(show);
  }

  // ---- one run

  const dialog = document.getElementById("run");
  const body = document.getElementById("run-body");

  const unpacked = async (packed) => {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  };

  const download = (name, bytes) => {
    const button = make("button", name, { type: "button", class: "plain" });
    button.addEventListener("click", () => {
      const link = make("a", "", { href: URL.createObjectURL(new Blob([bytes])), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
    return button;
  };

  const tabulated = (columns, rows, label) => {
    const cells = (row) => row.map((each, number) => make(number ? "td" : "th", String(each), number ? {} : { scope: "row", class: "method" }));
    const head = make("thead", make("tr", columns.map((each, number) => make("th", each, { scope: "col", ...(number ? {} : { class: "method" }) }))));
    const table = make("table", [head, make("tbody", rows.map((row) => make("tr", cells(row))))]);
    return make("div", table, { class: "scroll", tabindex: "0", role: "region", "aria-label": label });
  };

  const short = (number) => (number === null || number === undefined ? "–" : String(Number(number.toPrecision(4))));

  const scores = (record) => {
    const pooled = (record.scores ?? []).filter(({ scope = "group" }) => scope === "group");
    return tabulated(
      ["score", "source", "test set", "group", "value", "interval", "over", "real reference", "images"],
      pooled.map(({ label, source = "generated", test_set = "test", group, value, interval, reference, n }) => [
        label, source, test_set, group, value === null ? "n too small" : short(value),
        interval ? `${short(interval.low)} to ${short(interval.high)}` : "–",
        interval ? `${interval.units} × ${interval.unit}` : "–", short(reference), n,
      ]),
      "Scores of the run");
  };

  const facts = (record) => {
    const { spec, environment, cost } = record;
    const named = ({ name, version, settings }) =>
      `${name} (version ${version})${Object.entries(settings).map(([key, each]) => ` ${key}=${each}`).join("")}`;
    const found = {
      identity: record.run_id, status: record.status, reason: record.reason,
      method: named(spec.method), guidance: named(spec.guidance), task: named(spec.task), backbone: named(spec.backbone),
      started: record.started, finished: record.finished,
      device: `${environment.device}, ${environment.platform}`,
      versions: Object.entries(environment.versions).map((pair) => pair.join(" ")).join(", "),
      commit: environment.git_commit && `${environment.git_commit}${environment.git_dirty ? " with changes" : ""}`,
      trained: cost && `${cost.trainable_parameters.toLocaleString("en")} parameters in ${short(cost.train_seconds)} s`,
      streams: record.streams, weights: record.weights,
    };
    const shown = Object.entries(found).filter(([, each]) => each);
    return make("dl", shown.flatMap(([key, each]) => [make("dt", key), make("dd", each)]), { class: "facts" });
  };

  const log = (text) => {
    const rows = text.trim().split("\n").map((line) => JSON.parse(line));
    const groups = [...new Set(rows.flatMap((row) => Object.keys(row.group_loss ?? {})))];
    return tabulated(["step", "loss", ...groups], rows.map((row) =>
      [row.step, short(row.loss), ...groups.map((group) => short(row.group_loss?.[group]))]), "Training log");
  };

  const quiet = (words) => make("p", words, { class: "quiet" });

  const readable = (build) => {
    try { return build(); } catch { return [quiet("It cannot be read; the download is the file, unchanged.")]; }
  };

  const sections = (files) => {
    const text = Object.fromEntries(Object.entries(files).map(([name, bytes]) => [name, new TextDecoder().decode(bytes)]));
    const buttons = Object.entries(files).map((pair) => download(...pair));
    return [
      make("div", buttons, { class: "buttons", role: "group", "aria-label": "Downloads" }),
      make("h3", "Facts"),
      ...readable(() => {
        const record = JSON.parse(text["record.json"]);
        return [facts(record), ...(record.scores?.length ? [make("h3", "Scores"), scores(record)] : [])];
      }),
      ...(text["train.jsonl"]?.trim() ? [make("h3", "Log"), ...readable(() => [log(text["train.jsonl"])])] : []),
      make("h3", "Record"),
      make("details", [make("summary", "The whole record"), make("pre", text["record.json"])]),
    ];
  };

  const contents = async (packed) => {
    if (!packed) return [quiet("This page leaves out the record and log of this run; they lie in the results folder.")];
    try {
      const pairs = Object.entries(packed).map(async ([name, each]) => [name, await unpacked(each)]);
      return sections(Object.fromEntries(await Promise.all(pairs)));
    } catch {
      return [quiet("The record and log of this run cannot be unpacked here; they lie in the results folder.")];
    }
  };

  let opened = 0;
  const open = async (row) => {
    const number = ++opened;
    const command = row.querySelector("code").textContent;
    document.getElementById("run-title").textContent = `${row.dataset.label}, seed ${row.dataset.seed}`;
    body.replaceChildren(make("h3", "Command"), make("pre", make("code", command)));
    if (!dialog.open) dialog.showModal();
    const found = await contents(data.files[row.dataset.key]);
    if (number === opened) body.append(...found); // else a run was opened meanwhile, perhaps this one again
  };

  for (const button of all(".open")) button.addEventListener("click", () => open(button.closest("tr")));
  document.getElementById("run-close").addEventListener("click", () => dialog.close());
})();
