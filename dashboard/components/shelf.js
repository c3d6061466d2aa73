// A shelf of title cards. Cards are real buttons; every text enters by textContent, so a title can never be markup.
// Sends the trigger value `picked` (the title's id) when a card is chosen.

const card = (title, pick) => {
  const button = element("button", "card");
  button.type = "button";
  button.dataset.id = title.id;
  button.setAttribute("aria-label", title.name);
  button.style.background = title.background;
  if (title.badge) button.append(element("span", "badge", title.badge));
  const name = element("span", "title", title.title);
  name.style.fontSize = `${title.size}px`;
  button.append(name, element("span", "foot", title.foot));
  const more = element("span", "more");
  more.setAttribute("aria-hidden", "true");
  more.append(element("span", "more-title", title.shown));
  if (title.genres) more.append(element("span", "more-line", title.genres));
  if (title.note) more.append(element("span", "more-note", title.note));
  button.append(more);
  button.addEventListener("click", () => pick(title.id));
  return button;
};

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  const root = parentElement.querySelector(".shelf");
  const strip = root.querySelector(".strip");
  const [back, forward] = root.querySelectorAll(".arrow");

  root.querySelector("h2").textContent = data.title;
  root.querySelector(".row-note").textContent = data.note;
  root.setAttribute("aria-label", data.title);
  back.setAttribute("aria-label", `Back in ${data.title}`);
  forward.setAttribute("aria-label", `Further in ${data.title}`);

  // The page is drawn again on every click: keep the strip and its place when its titles are the same.
  const content = drawnOnly(data.cards);
  if (root.content !== content) {
    root.content = content;
    root.pick = null;
    strip.replaceChildren(
      ...data.cards.map((title) => {
        const slot = element("li");
        slot.append(card(title, (id) => root.pick(id)));
        return slot;
      }),
    );
    strip.scrollLeft = 0;
  }
  const endPosters = realPosters(strip, data.cards);
  root.pick = (id) => setTriggerValue("picked", id);

  const arrows = () => {
    back.disabled = strip.scrollLeft < 8;
    forward.disabled = strip.scrollLeft + strip.clientWidth > strip.scrollWidth - 8;
  };
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const scroll = (direction) =>
    strip.scrollBy({ left: direction * strip.clientWidth * 0.85, behavior: calm ? "auto" : "smooth" });
  const keys = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const buttons = [...strip.querySelectorAll("button")];
    const here = buttons.indexOf(parentElement.activeElement ?? document.activeElement);
    const next = event.key === "Home" ? 0 : event.key === "End" ? buttons.length - 1 : here + step;
    if (here < 0 || Number.isNaN(next) || !buttons[next]) return;
    event.preventDefault();
    buttons[next].focus();
  };
  back.onclick = () => scroll(-1);
  forward.onclick = () => scroll(1);
  strip.onkeydown = keys;
  strip.onscroll = arrows;
  root.watcher?.disconnect(); // what is returned here is called once, when the shelf goes
  root.watcher = new ResizeObserver(arrows);
  root.watcher.observe(strip);
  arrows();
  return () => {
    root.watcher.disconnect();
    endPosters();
  };
}
