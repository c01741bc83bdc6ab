// Looks every second how far a rescan is, and shows the page anew once it is done.
"use strict";
(() => {
  const line = document.getElementById("rescan");
  const bar = document.getElementById("share");
  const look = async () => {
    try {
      const answer = await fetch(`/rescans/${encodeURIComponent(line.dataset.job)}/state`, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(String(answer.status));
      const state = await answer.json();
      if (state.state === "done" || state.state === "failed") {
        location.reload();
        return;
      }
      bar.value = state.share;
      line.textContent = state.state === "waiting" ? "Waits for its turn." : `Compares released outputs: ${Math.round(100 * state.share)} %`;
    } catch {
      line.textContent = "The desk does not answer; trying again.";
    }
    setTimeout(look, 1000);
  };
  setTimeout(look, 500);
})();
