// On a phone filters are folded away until they are asked for.
"use strict";
(() => {
  const filters = document.getElementById("filters");
  if (filters && window.matchMedia("(max-width: 760px)").matches) filters.closest("details").open = false;
})();
