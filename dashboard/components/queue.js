// The queue of reviews. Rows are real buttons; every text enters by textContent, so a review can never be markup.
// Sends the trigger value `sent`: what to do (open, approved, dismissed, undo, tick, all, none, more, and "approved all" or
// "dismissed all" for what is ticked), the review's id, and which of the listed ones are ticked (`on`) and which not
// (`off`). One is sent at a time, with a `turn` that the page's answer repeats: none is lost and none overtakes another.

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

const BESIDE = ".st-key-inbox-pane, .st-key-inbox-undo, .st-key-inbox-bulk"; // where the keys work too
const GOES = ".st-key-inbox-decide, .st-key-inbox-undo, .st-key-inbox-bulk"; // buttons that a click may take away
const ANSWER_MS = 10_000;
const isText = (node) =>
  node.matches("textarea, select, [contenteditable], [role=textbox], [role=combobox]") ||
  (node.matches("input") && !["checkbox", "radio"].includes(node.type));

// Once all that was told is answered and the page has been drawn to its end: what a key is for may not be there before.
const whenDrawn = (root, then, tries = 100) => {
  const isDrawn = !root.isWaiting && !root.outbox.length && !document.querySelector('[data-test-script-state="running"]');
  if (isDrawn) then();
  else if (tries) setTimeout(whenDrawn, 50, root, then, tries - 1);
};

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  const root = parentElement.querySelector(".queue");
  const [list, more, shownBox] = [".list", ".more", ".shown"].map((name) => root.querySelector(name));
  const focused = () => (parentElement.activeElement ?? document.activeElement)?.closest(".queue *");

  root.outbox ??= [];
  root.turn ??= data.turn;
  if (data.turn >= root.turn) root.isWaiting = false;
  const isSettled = !root.isWaiting && !root.outbox.length;
  const isDeciding = () => root.isDeciding && (root.isWaiting || root.outbox.length);

  const boxes = () => [...list.querySelectorAll(".tick")];
  const rows = () => [...list.querySelectorAll(".row")];
  const current = () => rows().find((one) => one.dataset.id === root.current);

  const flush = () => {
    if (root.isWaiting || !root.outbox.length) return;
    const [on, off] = [true, false].map((yes) => boxes().filter((box) => box.checked === yes).map((box) => box.dataset.id));
    root.isWaiting = true;
    root.turn += 1;
    const turn = root.turn;
    root.send({ turn, on, off, id: "", ...root.outbox.shift() });
    clearTimeout(root.patience);
    root.patience = setTimeout(() => {
      if (root.turn !== turn) return;
      root.isWaiting = false; // no answer: the page was lost, or is very slow
      flush();
    }, ANSWER_MS);
  };
  root.send = (sent) => setTriggerValue("sent", sent);
  const post = (event) => {
    const last = root.outbox.at(-1);
    // Ticks go with whatever is sent; of several reviews opened meanwhile the last one counts.
    if (last && (last.do === "tick" || (last.do === "open" && event.do === "open"))) root.outbox.pop();
    if (event.do !== "tick" || !root.outbox.length) root.outbox.push(event);
    flush();
  };

  const choose = (id) => {
    root.current = id;
    for (const slot of list.children) {
      const button = slot.querySelector(".row");
      const open = button.dataset.id === id;
      button.classList.toggle("open", open);
      for (const stop of slot.querySelectorAll("button, input")) stop.tabIndex = open ? 0 : -1; // Tab stops at one row
      if (open) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  };
  // Only the list scrolls to the open review, never the page.
  const reveal = () => {
    const slot = current()?.closest("li");
    if (!slot) return;
    const [top, bottom] = [slot.offsetTop - list.offsetTop, slot.offsetTop - list.offsetTop + slot.offsetHeight];
    if (top < list.scrollTop) list.scrollTop = top;
    else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
  };
  const focus = () => current()?.focus({ preventScroll: true });
  const open = (id) => {
    if (id !== root.current) post({ do: "open", id });
    choose(id);
    reveal();
    focus();
  };

  const counted = () => {
    const all = boxes();
    const n = all.filter((box) => box.checked).length;
    shownBox.checked = n > 0 && n === all.length;
    shownBox.indeterminate = n > 0 && n < all.length;
    root.querySelector(".clear").hidden = !(n || data.chosen);
  };
  const toggle = (id, on, isRange) => {
    const all = boxes();
    const places = [root.last, id].map((one) => all.findIndex((box) => box.dataset.id === one)).sort((a, b) => a - b);
    const range = isRange && places[0] >= 0 ? all.slice(places[0], places[1] + 1) : all.filter((box) => box.dataset.id === id);
    for (const box of range) box.checked = on;
    root.last = id;
    counted();
    post({ do: "tick" });
  };
  const tickAll = (on, what) => {
    for (const box of boxes()) box.checked = on;
    counted();
    post({ do: what });
  };
  Object.assign(root, { open, toggle });

  // What was drawn -----------------------------------------------------------------------------------------------------

  root.querySelector(".count").textContent = data.count;
  root.querySelector(".said").textContent = data.said;
  more.hidden = !data.more;
  more.textContent = data.more;
  more.onclick = () => post({ do: "more" });

  const [held, checked] = [focused(), new Set(boxes().filter((box) => box.checked).map((box) => box.dataset.id))];
  // The page is drawn again on every click: keep the rows and their place while they are the same.
  const content = JSON.stringify(data.rows);
  const isNew = root.content !== content;
  const heldTick = isNew && held?.matches("li .tick") ? held.dataset.id : "";
  const isLost = isNew && held && list.contains(held); // the focus, with its row
  if (isNew) {
    root.content = content;
    list.replaceChildren(
      ...data.rows.map((review) => {
        const slot = element("li");
        if (!review.state) slot.append(tick(review, (...of) => root.toggle(...of)));
        slot.append(row(review, (id) => root.open(id)));
        return slot;
      }),
    );
  }
  const ticked = isSettled ? new Set(data.ticked) : checked;
  for (const box of boxes()) box.checked = ticked.has(box.dataset.id);
  choose(isSettled || !data.rows.some((review) => review.id === root.current) ? data.open : root.current);

  root.querySelector(".choose").hidden = !data.openCount;
  root.querySelector(".choose span").textContent = `All ${boxes().length} shown`;
  shownBox.onclick = () => tickAll(shownBox.checked, "tick");
  const matching = root.querySelector(".matching");
  matching.hidden = data.openCount <= boxes().length;
  matching.textContent = `All ${data.openCount.toLocaleString("en")} that match`;
  matching.onclick = () => tickAll(true, "all");
  root.querySelector(".clear").onclick = () => tickAll(false, "none");
  counted();

  const isMoved = root.shown !== undefined && root.shown !== data.open;
  const outside = document.activeElement;
  const isGone = outside === document.body || Boolean(outside?.closest(GOES)); // the focus, with what was clicked
  if (root.shown !== data.open || isNew) reveal();
  if (heldTick && boxes().some((box) => box.dataset.id === heldTick)) {
    boxes().find((box) => box.dataset.id === heldTick).focus({ preventScroll: true });
  } else if (isLost || (isGone && (isMoved || (root.chosen && !data.chosen)))) {
    focus(); // after a decision the next review is open and has the focus: go on without the mouse
  }
  if (data.asked && !root.asked) whenDrawn(root, () => document.querySelector(".st-key-inbox-bulk button")?.focus());
  Object.assign(root, { shown: data.open, asked: data.asked, chosen: data.chosen });

  // Keys ---------------------------------------------------------------------------------------------------------------

  const help = root.querySelector(".help");
  const explain = (on) => {
    root.querySelector(".keys").hidden = !on;
    help.setAttribute("aria-expanded", String(on));
  };
  help.onclick = () => explain(root.querySelector(".keys").hidden);

  const act = (what) => {
    if (isDeciding()) return; // who holds the key down decides about one review, not about those that follow unread
    root.isDeciding = true;
    post({ do: what, id: root.current });
  };
  const edit = () =>
    whenDrawn(root, () => {
      const reply = document.querySelector('.st-key-inbox-pane textarea[aria-label="Reply"]');
      reply?.focus();
      reply?.setSelectionRange(reply.value.length, reply.value.length);
    });
  const step = (by) => {
    const all = rows();
    const next = all[all.indexOf(current()) + by];
    if (next) open(next.dataset.id);
  };
  const actions = {
    j: () => step(1),
    k: () => step(-1),
    x: () => {
      const box = current()?.closest("li").querySelector(".tick");
      if (box) toggle(box.dataset.id, !box.checked, false);
    },
    a: () => act("approved"),
    d: () => act("dismissed"),
    e: edit,
    u: () => act("undo"),
    "?": () => explain(root.querySelector(".keys").hidden),
    "shift a": () => act("approved all"),
    "shift d": () => act("dismissed all"),
  };
  const inList = {
    ArrowDown: actions.j,
    ArrowUp: actions.k,
    Home: () => open(rows()[0].dataset.id),
    End: () => open(rows().at(-1).dataset.id),
  };
  const onKey = (event) => {
    const from = event.composedPath()[0];
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || !(from instanceof Element)) return;
    if (!root.contains(from) && !from.closest(BESIDE)) return;
    if (event.key === "Escape") {
      if (isText(from)) focus();
      explain(false);
      return;
    }
    if (isText(from)) return;
    const name = event.key.length > 1 || event.key === "?" ? event.key : (event.shiftKey ? "shift " : "") + event.key.toLowerCase();
    const action = actions[name] ?? (list.contains(from) ? inList[name] : undefined);
    if (!action || (event.repeat && !["j", "k", "ArrowDown", "ArrowUp"].includes(name))) return;
    event.preventDefault();
    action();
  };
  root.deaf?.();
  document.addEventListener("keydown", onKey);
  root.deaf = () => document.removeEventListener("keydown", onKey);
  flush();
  return root.deaf;
}
