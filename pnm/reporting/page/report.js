"use strict";

// Tables are sorted by the column whose heading is clicked: first falling (names rising), then the other way round.
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const header = button.parentElement, body = header.closest("table").tBodies[0];
    const column = header.cellIndex, previous = header.getAttribute("aria-sort");
    const rows = [...body.rows], key = row => row.cells[column].dataset.order;
    const known = rows.filter(row => key(row) !== undefined), unknown = rows.filter(row => key(row) === undefined);
    const areNumbers = known.every(row => key(row).trim() !== "" && !Number.isNaN(Number(key(row))));
    const rising = previous === null ? column === 0 : previous === "descending";
    const compare = (a, b) => areNumbers ? Number(key(a)) - Number(key(b)) : key(a).localeCompare(key(b));
    known.sort((a, b) => rising ? compare(a, b) : compare(b, a));
    for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", rising ? "ascending" : "descending");
    body.append(...known, ...unknown);
  });
}

// What is folded is printed, too.
addEventListener("beforeprint", () => { for (const folded of document.querySelectorAll("details")) folded.open = true; });

// A picture that is clicked is shown large.
const dialog = document.querySelector("dialog");
for (const button of document.querySelectorAll("button.enlarge")) {
  button.addEventListener("click", () => {
    const picture = button.querySelector("img"), large = dialog.querySelector("img");
    large.src = picture.src;
    large.alt = picture.alt;
    dialog.querySelector("p").textContent = picture.alt;
    dialog.showModal();
  });
}
dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
