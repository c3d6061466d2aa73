// The queue of reviews. Rows are real buttons; every text enters by textContent, so a review can never be markup.
// Sends the trigger values `picked` (a review's id) and `more` (how many rows to list from now on).

const signed = (kind, text) => {
  const node = element("span", `sign ${kind}`);
  node.append(element("span", "dot"), element("span", "", text));
  return node;
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
  if (root.content !== content) {
    root.content = content;
    root.pick = null;
    list.replaceChildren(
      ...data.rows.map((review) => {
        const slot = element("li");
        slot.append(row(review, (id) => root.pick(id)));
        return slot;
      }),
    );
  }
  more.hidden = !data.more;
  more.textContent = data.more;
  more.onclick = () => setTriggerValue("more", data.rows.length * 2);

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
  root.shown = data.open;

  list.onkeydown = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const all = buttons();
    const here = all.indexOf(event.target.closest("button"));
    const next = event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : here + step;
    if (here < 0 || Number.isNaN(next) || !all[next]) return;
    event.preventDefault();
    all[next].focus();
  };
}
