// The queue by keys: j and k go down and up, x picks, Shift with it picks all between, o opens.
"use strict";
(() => {
  const rows = [...document.querySelectorAll("[data-row]")];
  const bulk = document.querySelector(".bulk");
  let at = -1;
  let picked = -1;

  const boxOf = (row) => row.querySelector('input[name="case"]');
  const tell = () => {
    const chosen = rows.filter((row) => boxOf(row)?.checked);
    if (!bulk) return;
    const cases = chosen.reduce((sum, row) => sum + Number(row.dataset.alike || 1), 0);
    bulk.classList.toggle("some", chosen.length > 0);
    bulk.querySelector(".count").textContent = cases === 1 ? "1 case picked" : `${cases} cases picked`;
  };
  const go = (to) => {
    if (!rows.length) return;
    at = Math.max(0, Math.min(rows.length - 1, to));
    rows.forEach((row, place) => row.classList.toggle("at", place === at));
    const link = rows[at].querySelector("a.title");
    link?.focus({ preventScroll: true });
    rows[at].scrollIntoView({ block: "nearest" });
  };
  const pick = (to, between) => {
    const box = rows[to] && boxOf(rows[to]);
    if (!box) return;
    const wanted = between ? true : !box.checked;
    const [from, until] = between && picked >= 0 ? [Math.min(picked, to), Math.max(picked, to)] : [to, to];
    for (let place = from; place <= until; place += 1) {
      const one = boxOf(rows[place]);
      if (one) one.checked = wanted;
    }
    picked = to;
    tell();
  };

  desk.key("j ArrowDown", () => go(at + 1));
  desk.key("k ArrowUp", () => go(Math.max(at, 1) - 1));
  desk.key("x", () => (at < 0 ? go(0) : undefined, pick(at, false)));
  desk.key("Shift+x", () => (at < 0 ? go(0) : undefined, pick(at, true)));
  desk.key("Escape", () => {
    for (const row of rows) if (boxOf(row)) boxOf(row).checked = false;
    tell();
  });
  desk.key("o", () => {
    const link = rows[Math.max(at, 0)]?.querySelector("a.title");
    if (!link) return false;
    link.click();
  });
  desk.key("g", () => document.querySelector("[data-next]")?.click());
  desk.key("v", () => {
    if (!rows.some((row) => boxOf(row)?.checked)) return false;
    document.getElementById("picked").requestSubmit();
  });
  desk.key("]", () => document.querySelector('a[rel="next"]')?.click());
  document.addEventListener("click", (event) => {
    const box = event.target.closest('input[name="case"]');
    if (!box) return;
    const to = rows.findIndex((row) => row.contains(box));
    if (event.shiftKey && picked >= 0) {
      for (let place = Math.min(picked, to); place <= Math.max(picked, to); place += 1) {
        const one = boxOf(rows[place]);
        if (one) one.checked = box.checked;
      }
    }
    picked = to;
    tell();
  });
  document.querySelector("[data-clear]")?.addEventListener("click", () => {
    for (const row of rows) if (boxOf(row)) boxOf(row).checked = false;
    tell();
  });
  const filters = document.getElementById("filters");
  if (filters && window.matchMedia("(max-width: 760px)").matches) filters.closest("details").open = false;
  filters?.addEventListener("change", () => filters.requestSubmit());
  window.addEventListener("pageshow", tell);
  tell();
})();
