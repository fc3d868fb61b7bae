"use strict";
(async () => {
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

  // ---- what the page draws from: JSON as gzip in base64

  const unpacked = async (packed) => {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  };

  const read = async (element) => JSON.parse(new TextDecoder().decode(await unpacked(element.textContent)));

  const data = await read(document.getElementById("data"));

  // ---- what only a browser without script shows at once: tables that are filled in when they are opened

  for (const folded of all("details.lazy")) {
    folded.addEventListener("toggle", () => {
      const kept = folded.querySelector("noscript");
      if (!kept || !folded.open) return;
      const parsed = new DOMParser().parseFromString(kept.textContent, "text/html"); // escaped when it was written
      kept.replaceWith(...parsed.body.childNodes);
    });
  }

  // The page's policy forbids code from text, so that expressions are interpreted and styles are the page's own.
  const drawing = { ast: true, actions: false, defaultStyle: false, renderer: "svg", tooltip: { disableDefaultStyle: true } };

  const ROW_HEIGHT = 28; // of the table too, in the style sheet

  const draw = async (element, datasets = {}) => {
    const found = await read(element.closest("figure").querySelector(".specification"));
    if (datasets.rows) Object.assign(found, { datasets, height: ROW_HEIGHT * datasets.rows.length });
    const { view } = await vegaEmbed(element, found, drawing);
    return view;
  };

  // ---- the first screen: the table of scores, and beside it the differences to a baseline

  const CAS = { accuracy: "CAS", average_precision: "CAS (mAP)" }; // the second where images may have several labels
  const MINUS = "\u2212";
  const swatch = (index) => {
    const mark = ["●", "■", "◆", "▲"][Math.floor(index / 8) % 4];
    return make("span", "", { class: `swatch s${index % 8}`, "data-mark": mark, "aria-hidden": "true" });
  };
  const signed = (number, scale) => {
    const text = scale === "log" ? (100 * number).toFixed(0) : String(Number(number.toPrecision(3)));
    return (number > 0 ? `+${text}` : text).replace("-", MINUS) + (scale === "log" ? " %" : "");
  };
  const collator = new Intl.Collator("en", { numeric: true });

  const firstScreen = (board) => {
    const { columns, rows, references, differences, compared: labels } = data.boards[board.id];
    const form = board.querySelector("form.chips");
    const table = board.querySelector(".scores");
    const { metric, group, baseline, guidance, division, method } = form.elements;
    const place = (key, name) => columns.findIndex((each) => each.key === key && each.group === name);
    const costs = columns.map((each, number) => [each, number]).filter(([each]) => each.key === "cost");
    let order = null; // [title of the column, sign], where the reader chose it
    let plot = null; // promise of the forest plot

    // Every column that a table may have: title, whether it is shown at first, and what a row has there.
    const score = (number, extra = {}) => ({
      number, tells: columns[number].tells || data.metrics[columns[number].key], arrow: columns[number].arrow, ...extra,
    });
    const possible = () => {
      const at = place(metric.value, group.value);
      const measured = columns.filter((each) => each.key === metric.value);
      const compared = differences[`${metric.value} ${group.value}`];
      const by = Object.keys(CAS).find((key) => columns.some((each) => each.key === key));
      const cas = place(by, group.value);
      const word = (title, name, on, extra = {}) => ({ title, word: (row) => row[name], on, ...extra });
      return [
        ...(compared?.primary ? [{ title: "Rank", on: true, rank: at, tells: "Between which ranks the row lies at 95 %; *: it could be the best." }] : []),
        word("Method", "method", true, { always: true, phone: true }),
        word("Guidance", "guidance", true),
        word("Settings", "settings", false, { says: true }),
        word("Seeds", "seeds", false),
        word("Division", "division", rows.some((row) => row.division !== "closed")),
        word("Declared", "declared", false, { says: true }),
        ...measured.map((each) => score(columns.indexOf(each), {
          title: each.group, on: [group.value, "all"].includes(each.group), score: true, phone: each.group === group.value,
        })),
        ...(cas >= 0 && metric.value !== by ? [score(cas, { title: `${CAS[by]} ${group.value}`, on: true })] : []),
        { title: "Difference", on: false, phone: true, difference: compared, tells: "To the baseline, with its 95 % interval." },
        ...costs.map(([each, number]) => score(number, {
          title: { "trainable parameters": "Parameters", "training seconds": "Seconds", "NFE per image": "NFE" }[each.label] ?? each.label,
          on: each.label !== "training seconds", cost: true,
        })),
        word("Problems", "problems", rows.some((row) => row.problems), { says: true }),
      ];
    };

    const boxes = new Map(); // title of a column → whether the reader wants it
    const wanted = (column) => column.always || (boxes.get(column.title) ?? column.on);
    const between = (compared, row) => {
      const [from, to] = [labels.indexOf(baseline.value), labels.indexOf(row.label)];
      if (!compared || from < 0 || to < 0 || from === to) return null;
      const other = compared.rows[to][from];
      if (compared.rows[from][to] || !other) return compared.rows[from][to] || null;
      const turned = (each) => (each === null ? null : compared.scale === "log" ? 1 / (1 + each) - 1 : -each);
      return [turned(other[0]), turned(other[2]), turned(other[1])];
    };
    const number = (text) => (/\d$/.test(text) ? Number(text.replaceAll(",", "")) : null);

    const value = (column, row) => {
      if (column.number !== undefined) return number(row.cells[column.number][0]);
      if (column.rank !== undefined) return row.cells[column.rank][2] ? parseInt(row.cells[column.rank][2], 10) : null;
      if ("difference" in column) return between(column.difference, row)?.[0] ?? null;
      return column.word(row);
    };

    const cell = (column, row) => {
      const kind = [column.word && "word", column.says && "says", column.phone ? "phone" : "", wanted(column) ? "" : "only-phone"];
      const attributes = { class: kind.filter(Boolean).join(" ") };
      if (column.title === "Method") {
        const mark = row.mark === null ? [] : [swatch(row.mark)];
        return make("th", [...mark, row.method], { scope: "row", class: "method phone" });
      }
      if (column.word) return make("td", column.word(row), attributes);
      if (column.rank !== undefined) return make("td", row.cells[column.rank][2] ?? "", attributes);
      if ("difference" in column) {
        const found = between(column.difference, row);
        if (row.label === baseline.value) return make("td", "baseline", attributes);
        if (!found) return make("td", "–", attributes);
        const [difference, low, high] = found;
        const ends = low === null ? [] : [" ", make("small", `${signed(low, column.difference.scale)} to ${signed(high, column.difference.scale)}`.replaceAll(" %", ""))];
        return make("td", [signed(difference, column.difference.scale), ...ends], attributes);
      }
      const [text, spread, , best] = row.cells[column.number];
      if (best) attributes.class += " best";
      return make("td", spread && (column.score || column.cost) ? [`${text} `, make("small", spread, { class: "half" })] : text, attributes);
    };

    const shown = (row) => {
      const fits = guidance.value === "" ? row.chosen : guidance.value === "*" || `=${row.guidance}` === guidance.value;
      return fits && (!division?.value || row.division === division.value)
        && `${row.name} ${row.label}`.toLowerCase().includes(method.value.trim().toLowerCase());
    };

    const sorted = (found, column, sign) => [...found].sort((first, second) => {
      const [a, b] = [value(column, first), value(column, second)];
      if (column.word) return sign * collator.compare(a, b);
      if (a === null || b === null) return (a === null) - (b === null); // absent last
      return sign * (a - b);
    });

    const better = (column) => (column.arrow === "↑" ? -1 : 1);

    const columnChoice = (possibleColumns) => {
      const field = form.querySelector(".columns");
      const choices = possibleColumns.filter((column) => !column.always).map((column) => {
        const box = make("input", "", { type: "checkbox" });
        box.checked = wanted(column);
        box.addEventListener("input", (event) => {
          event.stopPropagation();
          boxes.set(column.title, box.checked);
          update(false);
        });
        return make("label", [box, column.title]);
      });
      field.replaceChildren(field.querySelector("legend"), ...choices);
    };

    const forest = (found, compared) => {
      const figure = board.querySelector(".forest");
      const against = rows.find((row) => row.label === baseline.value);
      const lines = found.map((row) => [row, between(compared, row)]).filter(([, each]) => each);
      figure.hidden = !lines.length;
      if (!lines.length) return;
      const scale = compared.scale === "log" ? 100 : 1;
      const drawn = lines.map(([row, [difference, low, high]], place) => ({
        place, name: row.name, difference: scale * difference,
        low: scale * (low ?? difference), high: scale * (high ?? difference),
        stands: low !== null && (low > 0 || high < 0),
      }));
      const what = columns[place(metric.value, group.value)];
      const lower = what.arrow === "↓";
      say(figure.querySelector("figcaption"),
        `${what.label} in ${group.value}: difference to ${against?.name ?? "the baseline"}${scale === 100 ? " in percent" : ""}, `
        + `${lower ? "left" : "right"} is better, with 95 % intervals${compared.primary ? ", which hold for all rows together" : " of each difference alone"}. `
        + "Coloured: the interval leaves out 0.");
      const ends = (low, high) => (low === null ? "" : ` (${signed(low, compared.scale)} to ${signed(high, compared.scale)})`);
      const told = lines.map(([row, [difference, low, high]]) => `${row.name} ${signed(difference, compared.scale)}${ends(low, high)}`);
      const chart = figure.querySelector(".chart");
      plot ??= draw(chart, { rows: drawn });
      plot.then((view) => {
        chart.setAttribute("aria-label", `Differences to ${against?.name ?? "the baseline"}: ${told.join("; ")}`); // not Vega's
        view.height(ROW_HEIGHT * drawn.length).data("rows", drawn).runAsync();
      });
    };

    const update = (choices = true) => {
      const all_columns = possible();
      if (choices) columnChoice(all_columns);
      const used = all_columns.filter((column) => wanted(column) || column.phone);
      const main = all_columns.find((column) => column.score && column.title === group.value);
      const chosen = order && all_columns.find((column) => column.title === order[0]);
      const by = chosen ?? main ?? all_columns.find((column) => column.always);
      const sign = chosen ? order[1] : better(by);
      const found = sorted(rows.filter(shown), by, sign);
      const head = used.map((column) => {
        const title = column.score ? [`${column.title} `, make("span", column.arrow, { "aria-hidden": "true" })] : column.title;
        const button = make("button", title, { type: "button", ...(column.tells ? { title: column.tells } : {}) });
        button.addEventListener("click", () => {
          order = [column.title, column === by ? -sign : better(column)];
          update(false);
          [...table.tHead.rows[0].cells].find((each) => each.dataset.title === column.title)?.querySelector("button").focus();
        });
        const kind = [column.word ? "word" : "", column.title === "Method" ? "method" : "", column.phone ? "phone" : "", wanted(column) ? "" : "only-phone"];
        return make("th", button, {
          scope: "col", class: kind.filter(Boolean).join(" "), "data-title": column.title,
          "aria-sort": column === by ? (sign === 1 ? "ascending" : "descending") : "none",
        });
      });
      table.tHead.replaceChildren(make("tr", head));
      table.tBodies[0].replaceChildren(...found.map((row) => make("tr", used.map((column) => cell(column, row)), { "data-method": row.label })));
      const real = used.map((column) => {
        const kind = { class: [column.phone ? "phone" : "", wanted(column) ? "" : "only-phone", column.word ? "word" : ""].filter(Boolean).join(" ") };
        if (column.title === "Method") return make("th", "Real images", { scope: "row", class: "method phone" });
        return make("td", column.number === undefined || column.cost ? "" : references[column.number], kind);
      });
      table.tFoot.replaceChildren(make("tr", real));
      const around = table.parentElement;
      around.classList.remove("fits");
      around.classList.toggle("fits", table.scrollWidth <= around.clientWidth);
      forest(found, differences[`${metric.value} ${group.value}`]);
      say(board.querySelector(".answer"), columns[place(metric.value, group.value)]?.said ?? "");
      say(board.querySelector(".meaning"), data.metrics[metric.value] ?? "");
      const all_shown = found.length === rows.filter((row) => row.chosen).length && !guidance.value && !method.value && !division?.value;
      say(form.querySelector(".found"), all_shown ? "" : found.length ? `${found.length} of ${rows.length} rows.` : "No row fits.");
    };
    form.addEventListener("input", () => update());
    form.addEventListener("submit", (event) => event.preventDefault());
    addEventListener("resize", () => update(false));
    form.hidden = false;
    nowAndOnceRestored(update.bind(null, true));
  };

  for (const board of all(".board")) if (board.querySelector(".scores")) firstScreen(board);

  // ---- one task, which the address names, or all of them

  const tasks = all("nav .chip");
  const choose = () => {
    const chip = tasks.find((each) => each.hash === decodeURI(location.hash));
    if (!chip && location.hash) return; // it names something within the page
    const chosen = chip ?? tasks[0];
    for (const board of all(".board")) board.hidden = chosen !== tasks[0] && chosen.hash !== `#${board.id}`;
    for (const each of tasks) each.setAttribute("aria-current", String(each === chosen));
  };

  // ---- charts: which metric, and which methods are in colour

  const views = new Map(); // element → promise of its view

  const pressed = (board) => all('.key[aria-pressed="true"]', board).map((key) => key.dataset.method);

  const colour = async (board, element) => {
    const view = await views.get(element);
    if (!("shown" in view.getState().signals)) return;
    await view.signal("shown", pressed(board)).runAsync();
  };

  for (const board of all(".board")) {
    const picks = board.querySelector(".picks");
    if (!picks) continue;
    const metric = picks.querySelector("select");
    const show = () => {
      for (const charts of all(".charts", board)) charts.hidden = charts.dataset.metric !== metric.value;
      for (const element of all(".chart", board)) {
        if (element.closest("[hidden], .forest") || views.has(element)) continue;
        views.set(element, draw(element));
        colour(board, element);
      }
    };
    metric.addEventListener("input", show);
    for (const key of all(".key", picks)) {
      key.addEventListener("click", () => {
        key.setAttribute("aria-pressed", key.getAttribute("aria-pressed") !== "true");
        for (const element of all(".chart", board)) if (views.has(element)) colour(board, element);
      });
    }
    picks.hidden = false;
    nowAndOnceRestored(show);
  }

  if (tasks.length) {
    addEventListener("hashchange", choose);
    choose();
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

  const WITHOUT = "–: no interval. Distances and diversity have one over seeds alone; a number of classes has none, nor has a classifier's score where n is too small: too few test images, or patients, in a class of the group.";

  const scores = (record) => {
    const pooled = (record.scores ?? []).filter(({ scope = "group" }) => scope === "group");
    return tabulated(
      ["score", "source", "test set", "group", "value", "95 % interval", "over", "real reference", "images"],
      pooled.map(({ label, source = "generated", test_set = "test", group, value, interval, reference, n }) => {
        const shown = interval && interval.unit !== "equal-count draw"; // percentiles over draws are no interval
        return [
          label, source, test_set, group, value === null ? "n too small" : short(value),
          shown ? `${short(interval.low)} to ${short(interval.high)}` : "–",
          shown ? `${interval.units} × ${interval.unit}` : "–", short(reference), n,
        ];
      }),
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
        return [facts(record), ...(record.scores?.length ? [make("h3", "Scores"), scores(record), make("p", WITHOUT, { class: "notes" })] : [])];
      }),
      ...(text["train.jsonl"]?.trim() ? [make("h3", "Log"), ...readable(() => [log(text["train.jsonl"])])] : []),
      make("h3", "Record"),
      make("details", [make("summary", "The whole record"), make("pre", text["record.json"])]),
    ];
  };

  const links = (names, key) => {
    const each = names.map((name) => make("li", make("a", name, { href: `${data.beside}/${key}/${name}` })));
    return [make("h3", "Files"), make("ul", each)];
  };

  const contents = async (packed, key) => {
    if (data.beside) return links(packed, key);
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
    const found = await contents(data.files[row.dataset.key], row.dataset.key);
    if (number === opened) body.append(...found); // else a run was opened meanwhile, perhaps this one again
  };

  document.addEventListener("click", ({ target }) => { if (target.closest(".open")) open(target.closest("tr")); });
  document.getElementById("run-close").addEventListener("click", () => dialog.close());
})();
