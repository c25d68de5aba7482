"use strict";
// What comes from files becomes text, never markup: nothing here writes HTML. Nothing is loaded either.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (selector, inside = document) => inside.querySelector(selector);
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const make = (tag, name, text) => {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const counted = (n, thing) => `${n.toLocaleString("en")} ${thing}${n === 1 ? "" : "s"}`;

  // Numbers explained: one tip, shown on hover, focus and tap.

  const tip = find("#tip");
  let told = null;

  function numberAt(target) {
    return target instanceof Element ? target.closest(".n") : null;
  }

  function explain(number) {
    if (told === number) return;
    if (told) told.removeAttribute("aria-describedby");
    told = number;
    tip.hidden = !number;
    if (!number) return;
    const about = data.explained[number.dataset.k] || { title: number.dataset.k, formula: "", n: "", source: "" };
    const card = number.closest(".card");
    const support = card ? card.dataset.support : "";
    const n = (number.dataset.n || about.n).replace("{support}", support);
    const lines = [["said", number.dataset.t || ""], ["title", about.title], ["formula", about.formula]];
    if (n) lines.push(["n", `n: ${n}`]);
    if (about.source) lines.push(["source", `from ${about.source}`]);
    tip.replaceChildren(...lines.filter(([, text]) => text).map(([name, text]) => make("span", name, text)));
    number.setAttribute("aria-describedby", "tip");
    place(number.getBoundingClientRect());
  }

  function place(box) {
    const room = document.documentElement.clientWidth;
    const left = Math.max(8, Math.min(box.left + box.width / 2 - tip.offsetWidth / 2, room - tip.offsetWidth - 8));
    const below = box.bottom + 8 + tip.offsetHeight < innerHeight || box.top < tip.offsetHeight + 8;
    tip.style.left = `${left}px`;
    tip.style.top = `${below ? box.bottom + 8 : box.top - tip.offsetHeight - 8}px`;
  }

  document.addEventListener("pointerover", (event) => {
    const number = numberAt(event.target);
    if (number) explain(number);
    else if (told && told !== document.activeElement) explain(numberAt(document.activeElement));
  });
  document.addEventListener("focusin", (event) => explain(numberAt(event.target)));
  document.addEventListener("focusout", () => explain(null));
  document.addEventListener("scroll", () => {
    if (told && told === document.activeElement) place(told.getBoundingClientRect()); // the browser scrolls to it
    else explain(null);
  }, { passive: true, capture: true });

  // Groups of numbers are one stop of the tab key; arrows go from number to number.

  function stepInside(group, by) {
    const numbers = all(".n", group).filter((one) => one.getClientRects().length);
    const here = numbers.indexOf(document.activeElement);
    const next = numbers[here < 0 ? (by > 0 ? 0 : numbers.length - 1) : here + by];
    if (next) next.focus();
  }

  function stepCards(card, by) {
    const cards = all(".card", list);
    const next = cards[cards.indexOf(card) + by];
    if (next) {
      next.focus();
      next.scrollIntoView({ block: "nearest" });
    }
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input, select, textarea");
    if (event.key === "Escape" && !tip.hidden) {
      explain(null);
    } else if (event.key === "Escape" && typing && line && line.value) {
      write("");
    } else if (typing) {
      return;
    } else if (event.key === "/" && line) {
      line.focus();
      line.select();
    } else if (event.key === "h" && heat) {
      heat.click();
    } else if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
      const group = event.target.closest(".group");
      if (!group) return;
      stepInside(group, event.key === "ArrowRight" ? 1 : -1);
    } else if (["ArrowDown", "ArrowUp", "j", "k"].includes(event.key)) {
      const card = event.target.closest(".card");
      if (!card) return;
      stepCards(card, event.key === "ArrowDown" || event.key === "j" ? 1 : -1);
    } else {
      return;
    }
    event.preventDefault();
  });

  const line = find("#q"), list = find("#cards"), heat = find("#heat"), order = find("#sort");
  if (!list) return;

  // The filter line: the same grammar and fields as in the workbench; words are looked for in label, names and class.

  class Mistake extends Error {}
  const PART =
    /"([^"]*)"?|([()])|([^\s"()<>=!≤≥≠]+)?\s*(<=|>=|!=|[<>=≤≥≠])(?:\s*"([^"]*)"?|\s*([^\s"()]+))?|([^\s"()<>=≤≥≠]+)/gu;
  const NUMBER = /^[-+]?(?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:e[-+]?\d+)?$/i;
  const COMPARED = {
    "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b,
    "=": (a, b) => a === b, "!=": (a, b) => a !== b,
  };
  const ALSO = { "≤": "<=", "≥": ">=", "≠": "!=" };
  const PROPERTIES = {};
  for (const [name, latents] of Object.entries(data.properties)) {
    const having = new Set(latents);
    PROPERTIES[name] = (row) => having.has(row.n);
  }
  const TEXTS = { class: (row) => row.c, label: (row) => row.l, names: (row) => row.l || row.w.join(" · ") };
  const spaced = (text) => text.replace(/[_-]/g, " ");
  const said = (row, field) => (field === "class" ? [row.c, row.d] : [TEXTS[field](row)]).map(spaced); // one a spelling
  const placeOf = new Map(data.fields.map((name, at) => [name, at]));
  const value = (row, field) => row.v[placeOf.get(field)] ?? null;

  function condition(name, sign, given) {
    const field = data.names[name.toLowerCase()];
    if (!field) throw new Mistake(`Latents have no “${name}” to compare: put text in double quotes.`);
    const kind = data.kinds[field];
    if (given === undefined || given === "") throw new Mistake(`A value is missing after ${field}${sign}.`);
    if (kind === "text") {
      if (sign !== "=" && sign !== "!=") throw new Mistake(`${field} is text and has no order: write ${field}=word.`);
      const fits = like(spaced(given)), wanted = sign === "=";
      return (row) => TEXTS[field](row) !== "" && said(row, field).some((one) => fits.test(one)) === wanted;
    }
    const percents = kind === "number" && name.endsWith("%") && !given.endsWith("%"); // as the heading of its column
    const number = parsed(percents ? `${given}%` : given);
    if (number === null) throw new Mistake(`“${given}” is no number after ${field}${sign}: write it like ${field}${sign}.5.`);
    if (kind === "property") return (row) => COMPARED[sign](Number(PROPERTIES[field](row)), number);
    return (row) => value(row, field) !== null && COMPARED[sign](value(row, field), number);
  }

  function parsed(text) {
    const share = text.endsWith("%");
    const digits = share ? text.slice(0, -1).trim() : text;
    if (!NUMBER.test(digits)) return null;
    return Number(digits.replaceAll("_", "")) / (share ? 100 : 1);
  }

  function like(pattern) {
    const parts = pattern.split("*").map((one) => one.replace(/[\\^$.|?+()[\]{}]/g, "\\$&"));
    return new RegExp(`^${parts.join(".*")}$`, "isu");
  }

  function words(text) {
    if (/^\d+$/.test(text)) return (row) => row.n === Number(text);
    const plain = text.replace(/[\\^$.*|?+()[\]{}/-]/g, "\\$&");
    const edge = (at) => (/[\p{L}\p{N}_]/u.test(at) ? "(?<![\\p{L}\\p{N}_])" : "");
    const whole = new RegExp(`${edge(text[0])}${plain}(?![\\p{L}\\p{N}_])`, "iu");
    const part = new RegExp(plain, "iu");
    const said = (row) => [row.l, ...row.w, row.c, row.k].join("\n");
    const pattern = data.latents.some((row) => whole.test(said(row))) ? whole : part; // car finds scarf if there is no car
    return (row) => pattern.test(said(row));
  }

  function understood(text) {
    const parts = [...text.matchAll(PART)];
    let at = 0;
    const word = () => (at < parts.length ? parts[at][2] || parts[at][7] : undefined);
    const ends = () => at === parts.length || ["OR", "AND", ")"].includes(word());
    const speaks = (part) => part[1] === undefined && (!part[7] || part[7] === "NOT" || property(part[7]));
    const property = (name) => data.kinds[data.names[name.toLowerCase()]] === "property";

    function either() {
      const found = [every()];
      while (word() === "OR") {
        at += 1;
        found.push(every());
      }
      return found.length === 1 ? found[0] : (row) => found.some((one) => one(row));
    }
    function every() {
      const found = items();
      while (word() === "AND") {
        at += 1;
        found.push(...items());
      }
      return (row) => found.every((one) => one(row));
    }
    function items() {
      if (ends()) throw new Mistake(`Nothing stands beside ${word() || "AND or OR"}: write what it joins.`);
      const found = [], text = [];
      while (!ends()) {
        const part = parts[at];
        if (speaks(part)) {
          found.push(item());
        } else {
          text.push((part[1] ?? part[7]).trim());
          at += 1;
        }
      }
      const wanted = text.filter(Boolean).join(" ");
      if (wanted) found.push(words(wanted));
      return found;
    }
    function item() {
      if (ends()) throw new Mistake("Nothing stands behind NOT: write what must not hold.");
      const part = parts[at];
      at += 1;
      if (part[2]) {
        const inside = either();
        if (word() !== ")") throw new Mistake("A ( is not closed: add the ) that it belongs to.");
        at += 1;
        return inside;
      }
      if (part[4]) {
        if (!part[3]) throw new Mistake(`“${part[0].trim()}” compares nothing: write a field before it.`);
        return condition(part[3], ALSO[part[4]] || part[4], part[5] ?? part[6]);
      }
      if (part[7] === "NOT") {
        const of = item();
        return (row) => !of(row);
      }
      if (part[1] === undefined && property(part[7])) return PROPERTIES[data.names[part[7].toLowerCase()]];
      return words((part[1] ?? part[7]).trim());
    }
    if (!parts.length) return () => true;
    const found = either();
    if (at < parts.length) throw new Mistake("A ) closes nothing: add the ( that it belongs to.");
    return found;
  }

  // Order: undefined last, numbers the largest first, texts from a to z.

  const ROW = new Map(data.latents.map((row) => [row.n, row]));
  const DOWN = { latent: false, class: false, names: false };
  let reversed = false;

  function key(row, sort) {
    if (sort === "marked") return row.m || null;
    if (sort === "names" || sort === "class") return TEXTS[sort](row).toLowerCase() || null;
    return value(row, sort);
  }

  function sorted(rows) {
    const sort = order.value;
    if (!sort) return reversed ? [...rows].reverse() : rows;
    const sign = ((DOWN[sort] ?? true) !== reversed ? -1 : 1);
    const keyed = rows.map((row) => [key(row, sort), row]);
    const known = keyed.filter(([one]) => one !== null);
    known.sort(([a], [b]) => sign * (a < b ? -1 : a > b ? 1 : 0));
    return [...known, ...keyed.filter(([one]) => one === null)].map(([, row]) => row);
  }

  // Cards: some at a time; pictures only of those that are near.

  const AT_ONCE = 24;
  let rows = [], shown = 0, only = null;
  const card = find("#card"), more = find("#more"), status = find("#status"), mistake = find("#mistake");
  const chosen = find("#chosen");

  function relist() {
    let wanted = () => true;
    mistake.textContent = "";
    line.removeAttribute("aria-invalid");
    try {
      wanted = understood(line.value);
    } catch (error) {
      if (!(error instanceof Mistake)) throw error;
      mistake.textContent = error.message;
      line.setAttribute("aria-invalid", "true");
      wanted = () => false;
    }
    const from = only ? only.latents.map((n) => ROW.get(n)).filter(Boolean) : data.latents;
    rows = sorted(from.filter(wanted));
    chosen.hidden = !only;
    if (only) find("span", chosen).textContent = only.title;
    shown = 0;
    list.replaceChildren();
    extend();
    status.textContent = `${rows.length.toLocaleString("en")} of ${counted(data.latents.length, "latent")}`;
  }

  function extend() {
    const next = rows.slice(shown, shown + AT_ONCE).map(cardOf);
    list.append(...next);
    shown += next.length;
    const left = rows.length - shown;
    more.hidden = left === 0;
    more.textContent = `Show ${Math.min(left, AT_ONCE)} more of ${left.toLocaleString("en")}`;
    return next[0];
  }

  function cardOf(row) {
    const made = card.content.firstElementChild.cloneNode(true);
    made.id = `latent-${row.n}`;
    const support = value(row, "support");
    made.dataset.support = support === null ? "an unknown number" : support.toLocaleString("en");
    find("h3 b", made).textContent = row.n;
    find("h3 span", made).textContent = row.l || row.w.slice(0, 3).join(" · ");
    made.setAttribute("aria-label", `latent ${row.n} ${row.l || row.w[0] || ""}${row.m ? ", marked" : ""}`);
    find(".marked", made).hidden = !row.m;
    find(".names", made).textContent = row.l ? row.w.join(" · ") : row.w.slice(3).join(" · ");
    find(".class", made).append(...classOf(row));
    find(".values", made).append(...data.values.map((one, at) => pair(one, row.t[at])));
    const left = row.o ? `${counted(row.o, "picture")} of this latent left out` : "";
    find(".note", made).textContent = left;
    near.observe(made);
    made.row = row;
    return made;
  }

  function classOf(row) {
    const share = value(row, "class_share");
    if (!row.c || share === null) return [row.c];
    const number = make("span", "n", `${Math.round(100 * share)}%`);
    number.dataset.k = "class_share";
    number.tabIndex = -1;
    return [number, ` ${row.c}`];
  }

  function pair(one, text) {
    const made = make("div", `value ${one.field}`);
    const number = make("dd", "n", text);
    number.dataset.k = one.field;
    number.tabIndex = -1;
    made.append(make("dt", "", one.title), number);
    return made;
  }

  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      near.unobserve(entry.target);
      find(".pictures", entry.target).append(...entry.target.row.p.map((one, at) => pictureOf(entry.target.row, one, at)));
    }
  }, { rootMargin: "600px" });

  function pictureOf(row, [number, activation, digits, strongest, peak, crop], at) {
    const made = make("figure", "picture"), frame = make("div", "frame"), image = make("img");
    image.loading = "lazy";
    image.decoding = "async";
    image.alt = `top image ${at + 1} of latent ${row.n}: ${data.paths[number]}, activation ${activation}`;
    image.title = data.paths[number];
    image.src = `data:image/webp;base64,${data.pictures[number]}`;
    frame.append(image);
    if (digits) frame.append(heatOf(digits));
    if (crop) frame.append(boxOf("spot crop", crop));
    else if (digits) frame.append(spotOf(strongest));
    const caption = make("figcaption"), value = make("span", "n", activation);
    value.dataset.k = "activation";
    value.dataset.t = data.paths[number];
    value.tabIndex = -1;
    caption.append(value);
    if (digits) {
      const patch = make("span", "n strongest", peak);
      patch.dataset.k = "strongest";
      patch.dataset.t = crop ? "the middle of the outlined crop" : "the outlined patch";
      patch.tabIndex = -1;
      caption.append(patch);
      made.classList.toggle("same", peak === activation);
    }
    made.append(frame, caption);
    return made;
  }

  // What does not fire fades into the page: a veil of one pixel a patch, which the style colours.
  function heatOf(digits) {
    const [high, wide] = data.grid;
    const made = make("canvas", "veil");
    made.width = wide;
    made.height = high;
    made.setAttribute("aria-hidden", "true");
    const context = made.getContext("2d"), pixels = context.createImageData(wide, high);
    for (let at = 0; at < digits.length; at += 1) {
      pixels.data[4 * at + 3] = Math.round(215 * (1 - parseInt(digits[at], 16) / 15));
    }
    context.putImageData(pixels, 0, 0);
    return made;
  }

  function spotOf(strongest) {
    const [high, wide] = data.grid, left = strongest % wide, top = Math.floor(strongest / wide);
    return boxOf("spot", [(100 * left) / wide, (100 * top) / high, 100 / wide, 100 / high]);
  }

  // A line around a part of a picture, told in per cent.
  function boxOf(kind, box) {
    const made = make("i", kind);
    ["left", "top", "width", "height"].forEach((side, at) => { made.style[side] = `${box[at]}%`; });
    return made;
  }

  // What a person does

  function write(text) {
    line.value = text;
    relist();
  }

  function show(latents, title) {
    only = { latents, title };
    line.value = "";
    relist();
    if (!rows.length) status.textContent = "None of these latents is in the gallery of this report.";
    find("#latents").scrollIntoView();
    (find(".card", list) || line).focus({ preventScroll: true });
  }

  let waiting = 0;
  line.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(relist, data.latents.length > 500 ? 120 : 0);
  });
  order.addEventListener("change", relist);
  find("#reverse").addEventListener("click", (event) => {
    reversed = !reversed;
    event.currentTarget.setAttribute("aria-pressed", String(reversed));
    relist();
  });
  if (heat) {
    heat.addEventListener("click", () => {
      const on = list.classList.toggle("hot");
      heat.setAttribute("aria-pressed", String(on));
    });
  }
  more.addEventListener("click", () => {
    const first = extend();
    if (first) first.focus();
  });
  find("button", chosen).addEventListener("click", () => {
    only = null;
    relist();
    line.focus();
  });
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("[data-latents]") : null;
    if (!link) return;
    event.preventDefault();
    show(link.dataset.latents.split(",").map(Number), link.dataset.title);
  });
  const given = make("option", "", data.sort in data.sorts ? `${data.sort}: ${data.sorts[data.sort]}` : "as listed");
  given.value = "";
  order.append(given);
  for (const [field, about] of Object.entries(data.sorts)) {
    if (field === data.sort || !data.latents.some((row) => key(row, field) !== null)) continue;
    const option = make("option", "", `${field}: ${about}`);
    option.value = field;
    order.append(option);
  }
  relist();
})();
