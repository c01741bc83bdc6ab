// The case page: pictures over one another, answers and decisions by keys, the lease while the page is open.
"use strict";
(() => {
  const page = document.getElementById("case");
  const form = document.getElementById("decide");
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const one = (query, from = document) => from.querySelector(query);
  const all = (query, from = document) => [...from.querySelectorAll(query)];

  // --- pictures over one another -----------------------------------------------------------------------
  const LARGEST_PX = 900; // of a side of the canvases: enough to see, quick to compute
  const BLINK_MS = 700; // of each picture: under three changes a second
  const compare = document.getElementById("compare");
  const stage = document.getElementById("stage");
  const drawn = { ready: null, image: null, work: null };
  let mode = "side";
  let blinking = 0;

  const load = (address) =>
    new Promise((done, failed) => {
      const picture = new Image();
      picture.onload = () => done(picture);
      picture.onerror = () => failed(new Error("the picture cannot be shown"));
      picture.src = address;
    });
  const pixelsOf = (picture, width, height) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.drawImage(picture, 0, 0, width, height);
    return pen.getImageData(0, 0, width, height);
  };
  const inverse = (m) => {
    const [a, b, c, d, e, f, g, h, i] = m;
    const cofactors = [e * i - f * h, c * h - b * i, b * f - c * e, f * g - d * i, a * i - c * g, c * d - a * f,
      d * h - e * g, b * g - a * h, a * e - b * d];
    const size = a * cofactors[0] + b * cofactors[3] + c * cofactors[6];
    return Math.abs(size) < 1e-12 ? null : cofactors.map((value) => value / size);
  };
  // The work's pixels where the image has its own: `onto` leads from the work's unit square to the image's.
  const laid = (work, onto, width, height) => {
    const back = inverse(onto);
    const out = new ImageData(width, height);
    if (!back) return out;
    const { data: from, width: w, height: h } = work;
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        const [px, py] = [(x + 0.5) / width, (y + 0.5) / height];
        const depth = back[6] * px + back[7] * py + back[8];
        const u = (back[0] * px + back[1] * py + back[2]) / depth;
        const v = (back[3] * px + back[4] * py + back[5]) / depth;
        if (!(u >= 0 && u <= 1 && v >= 0 && v <= 1)) continue;
        const [sx, sy] = [Math.min(Math.max(u * w - 0.5, 0), w - 1), Math.min(Math.max(v * h - 0.5, 0), h - 1)];
        const [x0, y0] = [Math.floor(sx), Math.floor(sy)];
        const [x1, y1] = [Math.min(x0 + 1, w - 1), Math.min(y0 + 1, h - 1)];
        const [fx, fy] = [sx - x0, sy - y0];
        const at = (y * width + x) * 4;
        for (let channel = 0; channel < 3; channel += 1) {
          const above = from[(y0 * w + x0) * 4 + channel] * (1 - fx) + from[(y0 * w + x1) * 4 + channel] * fx;
          const below = from[(y1 * w + x0) * 4 + channel] * (1 - fx) + from[(y1 * w + x1) * 4 + channel] * fx;
          out.data[at + channel] = above * (1 - fy) + below * fy;
        }
        out.data[at + 3] = 255;
      }
    }
    return out;
  };
  const put = (id, pixels) => {
    const canvas = document.getElementById(id);
    [canvas.width, canvas.height] = [pixels.width, pixels.height];
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas;
  };
  const prepare = () => {
    drawn.ready ??= Promise.all([load(compare.dataset.image), load(compare.dataset.work)]).then(([image, work]) => {
      const scale = Math.min(1, LARGEST_PX / Math.max(image.naturalWidth, image.naturalHeight));
      const width = Math.max(1, Math.round(image.naturalWidth * scale));
      const height = Math.max(1, Math.round(image.naturalHeight * scale));
      drawn.image = pixelsOf(image, width, height);
      const seen = pixelsOf(work, work.naturalWidth, work.naturalHeight);
      drawn.work = laid(seen, JSON.parse(compare.dataset.placement), width, height);
      put("image-canvas", drawn.image);
      put("work-canvas", drawn.work);
    });
    return drawn.ready;
  };
  const drawDifference = () => {
    const gain = Number(one("#gain").value);
    const { image, work } = drawn;
    const out = new ImageData(image.width, image.height);
    let [apart, seen] = [0, 0];
    for (let at = 0; at < out.data.length; at += 4) {
      out.data[at + 3] = 255;
      if (!work.data[at + 3]) {
        const grey = 0.3 * image.data[at] + 0.59 * image.data[at + 1] + 0.11 * image.data[at + 2];
        out.data[at] = out.data[at + 1] = out.data[at + 2] = 96 + grey * 0.25; // beside the work: nothing compared
        continue;
      }
      seen += 1;
      for (let channel = 0; channel < 3; channel += 1) {
        const difference = Math.abs(image.data[at + channel] - work.data[at + channel]);
        apart += difference;
        out.data[at + channel] = Math.min(255, difference * gain);
      }
    }
    put("difference-canvas", out);
    const share = Math.round((100 * seen) / (image.width * image.height));
    one("#difference-words").textContent = seen
      ? `The work lies over ${share} % of the image; there the pixels differ by ${(apart / seen / 3).toFixed(1)} of 255 on average.`
      : "The work does not lie over the image: there is nothing to compare.";
  };
  const slide = () => {
    const share = Number(one("#slide").value);
    one("#work-canvas").style.clipPath = mode === "slider" ? `inset(0 ${100 - share}% 0 0)` : "none";
    const canvas = one("#image-canvas");
    const bar = one("#stage .bar");
    bar.hidden = mode !== "slider";
    bar.style.left = `${canvas.offsetLeft + (canvas.offsetWidth * share) / 100}px`;
  };
  const blink = () => {
    const work = one("#work-canvas");
    work.hidden = !work.hidden;
    one("#blink-words").textContent = work.hidden ? "Now: the generated image" : "Now: the work";
  };
  const show = async (wanted) => {
    if (!compare || !stage || compare.dataset.veiled === "yes") return;
    mode = wanted;
    clearInterval(blinking);
    all("[data-mode]").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.mode === mode)));
    one("#side").hidden = mode !== "side";
    one("#over").hidden = mode === "side";
    all("[data-for]").forEach((part) => (part.hidden = part.dataset.for !== mode));
    if (mode === "side") return;
    try {
      await prepare();
    } catch (error) {
      one("#over-words").textContent = `Found a picture that cannot be drawn, expected both: ${error.message}.`;
      return;
    }
    if (mode !== wanted) return;
    one("#work-canvas").hidden = mode === "difference";
    one("#image-canvas").hidden = mode === "difference";
    one("#difference-canvas").hidden = mode !== "difference";
    if (mode === "difference") drawDifference();
    if (mode === "blink" && !still) blinking = setInterval(blink, BLINK_MS);
    slide();
  };
  const toggle = (wanted) => show(mode === wanted ? "side" : wanted);
  all("[data-mode]").forEach((button) => button.addEventListener("click", () => show(button.dataset.mode)));
  one("#slide")?.addEventListener("input", slide);
  one("#gain")?.addEventListener("input", drawDifference);
  one("#stage")?.addEventListener("click", () => mode === "blink" && blink());
  window.addEventListener("resize", () => mode === "slider" && slide());
  const overlay = () => {
    const off = compare.classList.toggle("no-overlay");
    one("[data-overlay]")?.setAttribute("aria-pressed", String(!off));
  };
  one("[data-overlay]")?.addEventListener("click", overlay);

  // --- pictures that are veiled ------------------------------------------------------------------------
  const reveal = () => {
    const veil = one("[data-reveal]");
    if (!veil) return false;
    veil.click(); // a link to this page without the veil: the server notes it
  };

  // --- answers and decisions ---------------------------------------------------------------------------
  const questions = form ? all(".question", form) : [];
  const answered = (question) => one("input:checked", question);
  const now = () => questions.find((question) => question.classList.contains("now"));
  const turn = (question) => {
    questions.forEach((other) => other.classList.toggle("now", other === question));
    if (question) desk.say(one("legend", question).textContent);
  };
  const suggest = () => {
    const said = new Set(questions.map((question) => answered(question)?.dataset.reason).filter(Boolean));
    all('input[name="reasons"][data-suggested]', form).forEach((box) => {
      if (box.dataset.touched) return;
      box.checked = said.has(box.value);
    });
  };
  const answer = (number) => {
    const question = now() ?? questions[0];
    const box = question && all("input[type=radio]", question)[number - 1];
    if (!box) return false;
    box.checked = true;
    suggest();
    turn(questions[questions.indexOf(question) + 1] ?? question);
  };
  const decide = (outcome) => {
    const button = form && one(`button[name="outcome"][value="${outcome}"]`, form);
    if (!button || button.disabled) return false;
    form.requestSubmit(button);
  };
  if (form) {
    turn(questions.find((question) => !answered(question)));
    form.addEventListener("change", (event) => {
      if (event.target.name === "reasons") event.target.dataset.touched = "yes";
      const question = event.target.closest(".question");
      if (question) {
        suggest();
        turn(questions.find((other) => !answered(other)) ?? question);
      }
    });
    form.addEventListener("submit", (event) => {
      const needs = event.submitter?.dataset.needsReasons === "yes";
      if (needs && !one('input[name="reasons"]:checked', form)) {
        event.preventDefault();
        one("#reasons-wanted").hidden = false;
        one('input[name="reasons"]', form).focus();
        return;
      }
      if (form.dataset.sent) event.preventDefault(); // one decision, however often the key is pressed
      form.dataset.sent = "yes";
    });
    window.addEventListener("pageshow", () => delete form.dataset.sent);
    for (const [letter, outcome] of [["r", "release"], ["w", "withhold"], ["c", "release_with_credit"], ["n", "not_a_match"]]) {
      desk.key(letter, () => decide(outcome));
    }
    for (const number of [1, 2, 3, 4]) desk.key(String(number), () => answer(number));
    desk.key("0", () => turn(questions[Math.max(questions.indexOf(now()) - 1, 0)]));
    desk.key("e", () => one("#note", form)?.focus());
    one("#note", form)?.addEventListener("keydown", (event) => event.key === "Escape" && event.target.blur());
    desk.key("a", () => {
      const boxes = all('input[name="also"]', form);
      if (!boxes.length) return false;
      const wanted = boxes.some((box) => !box.checked);
      boxes.forEach((box) => (box.checked = wanted));
      desk.say(wanted ? `${boxes.length} more cases are decided with this one` : "only this case is decided");
    });
  }
  desk.key("s", () => toggle("slider"));
  desk.key("b", () => toggle("blink"));
  desk.key("d", () => toggle("difference"));
  desk.key("m", overlay);
  desk.key("Space", () => (mode === "blink" ? blink() : reveal()));
  desk.key("j", () => one("[data-next]")?.click());
  desk.key("k", () => one("[data-previous]")?.click());
  desk.key("q Escape", () => one("[data-queue]")?.click());
  desk.key("o", () => one("[data-open]")?.click());
  desk.key("]", () => one("[data-next-work]")?.click());
  desk.key("[", () => one("[data-previous-work]")?.click());

  // --- the lease ---------------------------------------------------------------------------------------
  const LEASE_MS = 60_000;
  if (page?.dataset.leased === "yes") {
    const post = (what) =>
      fetch(`${page.dataset.address}/${what}`, { method: "POST", headers: { "X-CSRF-Token": desk.csrf() }, redirect: "manual" });
    setInterval(async () => {
      if (document.hidden) return;
      try {
        const told = await post("lease");
        const lost = !told.ok;
        one("#lease-lost").hidden = !lost;
      } catch {
        desk.say("The desk cannot be reached; your answers are kept here.");
      }
    }, LEASE_MS);
    window.addEventListener("pagehide", () => {
      if (form?.dataset.sent) return;
      const said = new FormData();
      said.append("csrf", desk.csrf());
      navigator.sendBeacon(`${page.dataset.address}/give-back`, said);
    });
    window.addEventListener("pageshow", (event) => event.persisted && post("lease"));
  }
})();
