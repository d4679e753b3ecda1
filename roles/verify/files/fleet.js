"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 100, FINDINGS = 15, UNREACHABLE = data.statuses.indexOf("unreachable"), OK = data.statuses.indexOf("ok");
  const GLYPHS = { fail: "✕", unreachable: "✕", unknown: "?", warn: "!", ok: "✓" };
  // "\ue000" stands for a part of the node's own, and "\ue001" separates found, expected and remedy.
  const texts = data.texts.map(([group, text]) => ({ group, text }));
  const nodes = data.nodes.map(([name, status, version, set, found], place) => ({ name, status, version, set, found, place }));
  const sets = data.sets.map((one) => new Set(one));
  const groups = data.groups.map(([check, status]) => ({ check, status }));
  const state = { status: "", version: "", group: "", search: "", sort: "status", down: false, page: 0, all: false };
  const opened = new Set();
  let columns = [], shown = nodes;

  const element = (name, attributes, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (value === true) made.setAttribute(key, "");
      else if (value !== false && value !== null) made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  };
  const number = (count) => count.toLocaleString("en");
  const findings = (node) => node.found.map((entry) => {
    const [place, ...own] = Array.isArray(entry) ? entry : [entry];
    const [found, expected, remedy] = texts[place].text.replace(/\ue000/g, () => own.shift() ?? "").split("\ue001");
    const group = texts[place].group;
    return { group, check: groups[group].check, status: groups[group].status, found, expected, remedy };
  });
  const inGroup = (node, group) => node.found.some((entry) => texts[Array.isArray(entry) ? entry[0] : entry].group === group);
  const statusOf = (node, check) => {
    for (const entry of node.found) {
      const group = groups[texts[Array.isArray(entry) ? entry[0] : entry].group];
      if (group.check === check) return group.status;
    }
    return sets[node.set].has(check) ? OK : OK + 1;
  };
  const words = (node) => node.words ??= [node.name, data.versions[node.version] || "",
    ...findings(node).map((one) => `${data.checks[one.check] || ""} ${one.found} ${one.remedy}`)].join("\n").toLowerCase();

  // The counts become buttons that filter.
  const counts = document.getElementById("counts");
  for (const item of counts.children) {
    const button = element("button", { type: "button", "aria-pressed": "false", onclick: () => {
      update({ status: state.status === item.dataset.status ? "" : item.dataset.status }); go();
    } }, ...item.childNodes);
    item.replaceChildren(button);
  }

  // The groups of findings: the first ones, and a button for the rest.
  const details = [...document.querySelectorAll(".group")];
  const more = element("button", { type: "button", id: "more-findings", onclick: () => { more.dataset.all = "1"; fold(); } });
  const fold = () => {
    const chosen = details.filter((one) => !state.status || one.dataset.status === state.status);
    for (const one of details) one.hidden = true;
    chosen.forEach((one, place) => { one.hidden = !more.dataset.all && place >= FINDINGS && !one.open; });
    more.hidden = Boolean(more.dataset.all) || chosen.length <= FINDINGS;
    more.textContent = `Show all ${chosen.length} findings`;
  };
  details.forEach((one, group) => one.querySelector(".body").prepend(element("button", { type: "button", onclick: () => {
    update({ ...NONE, group: String(group) }); go();
  } }, "Show these nodes in the table")));
  document.getElementById("findings").append(element("p", {}, more));

  // The table of the nodes.
  const select = (label, key, options) => element("select", { "aria-label": label, "data-key": key, onchange: (event) => update({ [key]: event.target.value }) },
    element("option", { value: "" }, label), ...options.map(([value, text]) => element("option", { value }, text)));
  const NONE = { status: "", version: "", group: "", search: "" };
  const search = element("input", { type: "search", id: "search", placeholder: "Search names and findings", "aria-label": "Search names and findings",
    oninput: () => update({ search: search.value }) });
  const filters = [
    select("Any status", "status", [...counts.children].map((one) => [one.dataset.status, one.dataset.status])),
    select("Any version", "version", data.versions.map((version, place) => [String(place), `containerd ${version}`])),
    select("Any finding", "group", groups.map(({ check, status }, place) => [String(place), check < 0 ? "unreachable"
      : `${data.statuses[status]}: ${data.checks[check]} (${details[place].querySelector(".count b").textContent})`])),
  ];
  const everything = element("input", { type: "checkbox", id: "all-checks", onchange: () => { state.all = everything.checked; draw(); } });
  const clear = element("button", { type: "button", id: "clear", onclick: () => { update(NONE); search.focus(); } }, "Clear filters");
  const matches = element("span", { id: "matches", role: "status" });
  const title = element("h2", { id: "nodes-title", tabindex: "-1" }, "Nodes");
  const head = element("thead"), body = element("tbody");
  const table = element("table", { id: "nodes" }, head, body);
  const turn = (text, label, page) => element("button", { type: "button", "aria-label": label, onclick: () => { state.page = page(); draw(); frame.scrollTop = 0; } }, text);
  const last = () => Math.max(0, Math.ceil(shown.length / PAGE) - 1);
  const turns = [turn("«", "First page", () => 0), turn("‹ Previous", "Previous page", () => state.page - 1),
    turn("Next ›", "Next page", () => state.page + 1), turn("»", "Last page", last)];
  const range = element("span", { id: "range" });
  const pages = element("nav", { class: "end", "aria-label": "Pages" }, range, ...turns);
  const frame = element("div", { class: "table", tabindex: "0", role: "region", "aria-labelledby": "nodes-title" }, table);
  const legend = element("p", { class: "legend" }, ...["fail", "unknown", "warn", "ok"].flatMap((status) =>
    [element("b", { class: status }, GLYPHS[status]), ` ${status}   `]), "– not checked. A mark leads to the finding and its remedy; a name shows all findings of the node.");
  document.querySelector("main").append(element("section", { "aria-labelledby": "nodes-title" }, title,
    element("div", { class: "tools" }, search, ...filters, clear, matches),
    element("div", { class: "tools" }, element("label", { class: "line" }, everything, `All ${data.checks.length} checks`),
      pages),
    frame, legend));
  const printed = element("table", { id: "print" });
  document.querySelector("main").append(printed);

  // Leads to the table, also for the keyboard.
  const go = () => { title.scrollIntoView({ block: "start" }); title.focus({ preventScroll: true }); };
  const collator = new Intl.Collator("en", { numeric: true });
  const compare = () => {
    const key = state.sort;
    if (key === "name") return (one, other) => collator.compare(one.name, other.name);
    if (key === "version") return (one, other) => collator.compare(data.versions[one.version] || "", data.versions[other.version] || "");
    if (key === "status") return (one, other) => one.place - other.place;
    const statuses = new Map(shown.map((node) => [node, statusOf(node, key)]));
    return (one, other) => statuses.get(one) - statuses.get(other);
  };
  const update = (change) => {
    Object.assign(state, change, { page: 0 });
    const wanted = state.search.trim().toLowerCase();
    const status = data.statuses.indexOf(state.status);
    shown = nodes.filter((node) => (!state.status || node.status === status) && (!state.version || node.version === Number(state.version))
      && (!state.group || inGroup(node, Number(state.group))) && (!wanted || words(node).includes(wanted)));
    // Equal nodes stay in the order of the report, worst first, in both directions.
    const order = compare();
    shown.sort((one, other) => (state.down ? order(other, one) : order(one, other)) || one.place - other.place);
    for (const item of counts.children) item.firstChild.setAttribute("aria-pressed", String(item.dataset.status === state.status));
    for (const filter of filters) filter.value = state[filter.dataset.key];
    if (search.value.trim().toLowerCase() !== wanted) search.value = state.search;
    fold();
    draw();
  };
  const sortBy = (key) => update({ sort: key, down: state.sort === key && !state.down });
  const heading = (key, text, check) => element("th", { scope: "col", class: check ? "check" : null,
    "aria-sort": state.sort === key ? (state.down ? "descending" : "ascending") : null },
  element("button", { type: "button", "data-sort": key, onclick: () => {
    sortBy(key); head.querySelector(`[data-sort="${key}"]`).focus();
  } }, text));
  const used = new Set(groups.map((group) => group.check));
  const draw = () => {
    columns = data.checks.map((_check, place) => place).filter((place) => state.all || used.has(place));
    head.replaceChildren(element("tr", {}, heading("name", "Node"), heading("status", "Status"), heading("version", "containerd"),
      ...columns.map((place) => heading(place, data.checks[place], true))));
    const first = state.page * PAGE;
    body.replaceChildren(...shown.slice(first, first + PAGE).flatMap(row));
    matches.textContent = `${number(shown.length)} of ${number(nodes.length)} nodes`;
    range.textContent = shown.length ? `${number(first + 1)}–${number(Math.min(first + PAGE, shown.length))} of ${number(shown.length)}` : "No nodes";
    pages.hidden = shown.length <= PAGE;
    clear.hidden = !Object.keys(NONE).some((key) => state[key]);
    turns.forEach((button, place) => { button.disabled = place < 2 ? state.page === 0 : state.page >= last(); });
  };
  const badge = (status) => element("span", { class: `badge ${data.statuses[status]}` }, data.statuses[status]);
  const row = (node) => {
    const status = data.statuses[node.status];
    const name = node.found.length ? element("button", { type: "button", "aria-expanded": String(opened.has(node)), onclick: (event) => {
      const button = event.currentTarget, line = button.closest("tr");
      if (opened.delete(node)) line.nextSibling.remove();
      else { opened.add(node); line.after(expanded(node)); }
      button.setAttribute("aria-expanded", String(opened.has(node)));
    } }, node.name) : element("span", {}, node.name);
    const cells = node.status === UNREACHABLE
      ? [element("td", { class: "reason", colspan: columns.length || 1 }, findings(node)[0].found)]
      : cellsOf(node);
    const line = element("tr", { "data-status": status }, element("th", { scope: "row" }, name), element("td", {}, badge(node.status)),
      element("td", {}, data.versions[node.version] || "–"), ...cells);
    return opened.has(node) ? [line, expanded(node)] : [line];
  };
  const cellsOf = (node) => {
    const bad = new Map(findings(node).map((one) => [one.check, one]));
    return columns.map((place) => {
      const one = bad.get(place), check = data.checks[place];
      if (!one) {
        const run = sets[node.set].has(place);
        return element("td", { class: run ? "check ok" : "check none", title: `${check}: ${run ? "ok" : "not checked"}` }, run ? GLYPHS.ok : "–");
      }
      const status = data.statuses[one.status];
      return element("td", { class: `check ${status}` }, element("a", { href: `#f${one.group}`, title: `${check}: ${one.found} → ${one.remedy}`,
        "aria-label": `${status}: ${check} of ${node.name}` }, GLYPHS[status]));
    });
  };
  const expanded = (node) => element("tr", { class: "more" }, element("td", { colspan: columns.length + 3 }, element("ul", {}, ...findings(node).sort((one, other) => one.status - other.status).map((one) =>
    element("li", {}, badge(one.status), " ", element("code", {}, data.checks[one.check] || ""), ` ${one.found} `,
      element("span", { class: "note" }, `(expected: ${one.expected}) → `), element("a", { href: `#f${one.group}` }, one.remedy || "finding"))))));

  // A link to a group opens it, also if it is folded.
  const follow = () => {
    const group = /^#f\d+$/.test(location.hash) && document.getElementById(location.hash.slice(1));
    if (!group) return;
    group.hidden = false;
    group.open = true;
    group.scrollIntoView({ block: "start" });
    group.querySelector("summary").focus({ preventScroll: true });
  };
  addEventListener("hashchange", follow);
  // The address doesn't change for the group that it already names.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#f']");
    if (link && link.getAttribute("href") === location.hash) { event.preventDefault(); follow(); }
  });

  // Paper shows the nodes of the chosen filters, in few columns; without a filter, those that are not ok.
  addEventListener("beforeprint", () => {
    const filtered = Object.keys(NONE).some((key) => state[key]);
    printed.replaceChildren(
      element("thead", {}, element("tr", {}, ...["Node", "Status", "containerd", "Findings"].map((text) => element("th", {}, text)))),
      element("tbody", {}, ...shown.filter((node) => filtered || node.status !== OK).map((node) => element("tr", {}, element("th", {}, node.name),
        element("td", {}, data.statuses[node.status]), element("td", {}, data.versions[node.version] || "–"),
        element("td", {}, findings(node).map((one) => one.check < 0 ? one.found : `${data.checks[one.check]}: ${data.statuses[one.status]}`).join(", "))))));
  });
  addEventListener("afterprint", () => printed.replaceChildren());

  update({});
  follow();
})();
