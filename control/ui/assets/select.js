// Ticks by the dozen: one box for all of a list, and how many are ticked.
for (const all of document.querySelectorAll("[data-all]")) {
  all.hidden = false;
  const boxes = () => [...document.querySelectorAll(`input[type=checkbox][name="${all.dataset.all}"]`)];
  all.addEventListener("change", () => {
    for (const box of boxes()) box.checked = all.checked;
    count();
  });
}

function count() {
  for (const shown of document.querySelectorAll("[data-selected]")) {
    const ticked = document.querySelectorAll(`input[name="${shown.dataset.selected}"]:checked`).length;
    shown.textContent = ticked === 0 ? "None ticked" : `${ticked} ticked`;
  }
}

document.addEventListener("change", count);
count();
