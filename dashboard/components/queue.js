// The queue of reviews. Rows are real buttons; every text enters by textContent, so a review can never be markup.
// Sends the trigger values `picked` (a review's id), `more` (how many rows to list from now on), `ticked` (the ids that are
// ticked now) and `all` (whether everything that matches is to be ticked).

const signed = (kind, text) => {
  const node = element("span", `sign ${kind}`);
  node.append(element("span", "dot"), element("span", "", text));
  return node;
};

const tick = (review, toggle) => {
  const slot = element("label", "slot");
  const box = element("input", "tick");
  box.type = "checkbox";
  box.dataset.id = review.id;
  box.tabIndex = -1; // the x key ticks the row that has the focus
  box.setAttribute("aria-label", `Choose: ${review.name}`);
  box.addEventListener("click", (event) => toggle(review.id, box.checked, event.shiftKey));
  slot.append(box);
  return slot;
};

const row = (review, pick) => {
  const button = element("button", "row");
  button.type = "button";
  button.dataset.id = review.id;
  button.setAttribute("aria-label", review.name);
  const head = element("span", "head");
  const priority = element("span", `priority ${review.level}`);
  priority.append(element("span", "number", review.number), element("span", "", review.priority));
  head.append(priority, element("span", "title", review.title));
  if (!review.linked) head.lastChild.classList.add("none");
  if (review.state) head.append(element("span", "state", review.state));
  const foot = element("span", "foot");
  foot.append(signed(review.kind, review.mood));
  if (review.about) foot.append(element("span", "about", review.about));
  if (review.when) foot.append(element("span", "when", review.when));
  button.append(head, element("span", "words", review.words), foot);
  button.addEventListener("click", () => pick(review.id));
  return button;
};

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  const root = parentElement.querySelector(".queue");
  const list = root.querySelector(".list");
  const more = root.querySelector(".more");

  root.querySelector(".count").textContent = data.count;
  // The page is drawn again on every click: keep the rows and their place while they are the same.
  const content = JSON.stringify(data.rows);
  const wasHere = list.contains(parentElement.activeElement ?? document.activeElement);
  const changed = root.content !== content;
  if (changed) {
    root.content = content;
    root.pick = null;
    list.replaceChildren(
      ...data.rows.map((review) => {
        const slot = element("li");
        if (!review.state) slot.append(tick(review, (...of) => root.toggle(...of)));
        slot.append(row(review, (id) => root.pick(id)));
        return slot;
      }),
    );
  }
  more.hidden = !data.more;
  more.textContent = data.more;
  more.onclick = () => setTriggerValue("more", data.rows.length * 2);

  // What is ticked is the server's; a tick shows at once and is told.
  const ticks = () => [...list.querySelectorAll(".tick")];
  const everything = root.querySelector(".everything");
  const all = everything.querySelector("input");
  root.ticked = new Set(data.ticked);
  const shown = () => {
    for (const box of ticks()) box.checked = root.ticked.has(box.dataset.id);
    all.checked = data.open_count > 0 && root.ticked.size >= data.open_count;
    all.indeterminate = root.ticked.size > 0 && !all.checked;
  };
  shown();
  everything.hidden = data.open_count < 2;
  all.setAttribute("aria-label", `Choose all ${data.open_count} open reviews that match`);
  all.onclick = () => setTriggerValue("all", all.checked);
  root.toggle = (id, on, isRange) => {
    const ids = ticks().map((box) => box.dataset.id);
    const [from, to] = [ids.indexOf(root.last), ids.indexOf(id)].sort((a, b) => a - b);
    for (const one of isRange && from >= 0 ? ids.slice(from, to + 1) : [id]) {
      if (on) root.ticked.add(one);
      else root.ticked.delete(one);
    }
    root.last = id;
    shown();
    setTriggerValue("ticked", [...root.ticked]);
  };

  const buttons = () => [...list.querySelectorAll("button")];
  const choose = (id) => {
    for (const button of buttons()) {
      const open = button.dataset.id === id;
      button.classList.toggle("open", open);
      button.tabIndex = open ? 0 : -1; // one stop for the Tab key; arrows go on from there
      if (open) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  };
  root.pick = (id) => {
    choose(id);
    setTriggerValue("picked", id);
  };
  choose(data.open);
  // Only the list scrolls to the open review, never the page.
  const open = list.querySelector(".open");
  if (open && root.shown !== data.open) {
    const [top, bottom] = [open.offsetTop - list.offsetTop, open.offsetTop - list.offsetTop + open.offsetHeight];
    if (top < list.scrollTop) list.scrollTop = top;
    else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
  }
  // After a decision its row is gone, and the next one has the focus: go on without the mouse.
  if (open && wasHere && (changed || root.shown !== data.open)) open.focus({ preventScroll: true });
  root.shown = data.open;

  const keys = root.querySelector(".keys");
  keys.textContent = data.keys;
  keys.hidden = !data.keys;
  list.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const here = event.target.closest("li");
    const box = here?.querySelector(".tick");
    if (event.key === "x" && box) {
      event.preventDefault();
      root.toggle(box.dataset.id, !box.checked, false);
      return;
    }
    if (event.key === "e") {
      event.preventDefault();
      document.querySelector('.st-key-inbox-pane textarea[aria-label="Reply"]')?.focus();
      return;
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const rows = buttons();
    const at = rows.indexOf(here?.querySelector("button"));
    const next = event.key === "Home" ? 0 : event.key === "End" ? rows.length - 1 : at + step;
    if (at < 0 || Number.isNaN(next) || !rows[next]) return;
    event.preventDefault();
    rows[next].focus();
  };
}
