// Every word of the page, in both languages. A function takes what it speaks of.

const en = new Intl.NumberFormat("en"), zh = new Intl.NumberFormat("zh");
const percent = (share) => (share > 0 && share < 0.01 ? "<1%" : `${Math.round(share * 100)}%`);
const one = (count, singular, plural = `${singular}s`) => `${en.format(count)} ${count === 1 ? singular : plural}`;
const fixed = (value, digits) => value.toFixed(digits).replace("-", "−");

/** What a score is made of. */
const PARTS = {
  en: { ctr: "CTR", cvr: "CVR", ctcvr: "CTCVR", relevance: "relevance", sid_log_probability: "log p" },
  zh: { ctr: "点击率", cvr: "转化率", ctcvr: "点击转化率", relevance: "相关性", sid_log_probability: "log p" },
};
const PROBABILITIES = ["ctr", "cvr", "ctcvr"];
const part = (name, value, names) =>
  `${names[name]} ${PROBABILITIES.includes(name) ? `${(value * 100).toFixed(1)}%` : fixed(value, 2)}`;
const sum = (weights, names) =>
  Object.entries(weights).filter(([, weight]) => weight)
    .map(([name, weight]) => (weight === 1 ? "" : `${en.format(weight)} × `) + names[name]).join(" + ");

export const STRINGS = {
  en: {
    skip: "Skip to the results",
    language: "Language",
    query: "What are you looking for?",
    search: "Search",
    compare: "Compare two",
    key: "This service asks for an API key",
    useKey: "Use this key",
    served: (health) => `${health.run} · ${one(health.num_items, "item")}`,
    filters: (count) => (count ? `Filters · ${en.format(count)}` : "Filters"),
    category: "Category",
    brand: "Brand",
    seller: "Seller",
    any: "All",
    price: "Price",
    price_min: "Lowest price",
    price_max: "Highest price",
    inStock: "In stock only",
    clear: "Clear filters",
    shopper: "Shopper",
    stage: "Stage",
    sort: "List",
    generated: "As generated",
    reward: "Re-sorted by the reward model",
    left: "Left answer",
    right: "Right answer",
    answer: "Answer",
    nobody: "Nobody in particular",
    you: "You, from scratch",
    told: (user) => [user.user_id, user.profile, one(user.num_searches, "search", "searches")].filter(Boolean).join(" · "),
    behaviour: "What is known of this shopper",
    nothing: "Nothing yet. Click or order something in an answer: the next search takes it into account.",
    nobodyKnown: "This search is asked for nobody: everyone gets this answer. Choose a shopper to see it change.",
    anonymous: "This stage answers everyone alike.",
    asked: "Asked",
    clicked: "Clicked",
    ordered: "Ordered",
    askAgain: (query) => `Search for ${query}`,
    waiting: "Searching…",
    found: (count, milliseconds, passing) =>
      `${one(count, "item")} in ${en.format(Math.round(milliseconds))} ms` +
      (passing === null ? "" : `, out of ${en.format(passing)} that ${passing === 1 ? "passes" : "pass"} the filters`),
    foundBoth: (shared, all) => `${en.format(shared)} of ${one(all, "item")} are in both answers`,
    empty: "No item answers this query.",
    nonePasses: "No item passes these filters: widen or clear them.",
    begin: "Type a query, or take one that this shopper asked before.",
    failed: "The service cannot be reached. Is it still running?",
    soldOut: "sold out",
    click: "Click",
    order: "Order",
    clickOn: (title) => `Click on ${title}`,
    orderOf: (title) => `Order ${title}`,
    noted: "Noted. The next search knows of it.",
    again: "Search again",
    log_p: (score) => `log p ${fixed(score, 2)}`,
    score: (score) => `score ${fixed(score, 3)}`,
    formula: (weights) => `Score = ${sum(weights, PARTS.en)}`,
    part: (name, value) => part(name, value, PARTS.en),
    reads: "Why this item",
    tree: "Tree of semantic IDs",
    all: "The whole catalogue",
    items: (count) => one(count, "item"),
    ofItems: percent,
    more: (count) => `Show ${en.format(count)} more`,
    chosen: (value) => `p ${percent(Math.exp(value))}`,
    up: (count) => `${count} up from the left answer`,
    down: (count) => `${count} down from the left answer`,
    same: "the same place as in the left answer",
    fresh: "not in the left answer",
    isNew: "new",
  },
  zh: {
    skip: "跳到结果",
    language: "语言",
    query: "想找什么？",
    search: "搜索",
    compare: "两边对比",
    key: "此服务需要 API 密钥",
    useKey: "使用此密钥",
    served: (health) => `${health.run} · ${zh.format(health.num_items)} 件商品`,
    filters: (count) => (count ? `筛选 · ${zh.format(count)}` : "筛选"),
    category: "类目",
    brand: "品牌",
    seller: "商家",
    any: "全部",
    price: "价格",
    price_min: "最低价",
    price_max: "最高价",
    inStock: "仅显示有货",
    clear: "清除筛选",
    shopper: "用户",
    stage: "阶段",
    sort: "排序",
    generated: "按生成顺序",
    reward: "由奖励模型重排",
    left: "左侧结果",
    right: "右侧结果",
    answer: "结果",
    nobody: "不指定用户",
    you: "你（从零开始）",
    told: (user) => [user.user_id, user.profile, `${zh.format(user.num_searches)} 次搜索`].filter(Boolean).join(" · "),
    behaviour: "该用户的已知行为",
    nothing: "暂无记录。点击或购买结果中的商品，下一次搜索就会考虑它。",
    nobodyKnown: "此搜索不针对任何用户：所有人得到相同的结果。选择一位用户，看看结果如何变化。",
    anonymous: "此阶段对所有人给出相同的结果。",
    asked: "搜索过",
    clicked: "点击过",
    ordered: "购买过",
    askAgain: (query) => `搜索“${query}”`,
    waiting: "正在搜索…",
    found: (count, milliseconds, passing) =>
      `${zh.format(count)} 件商品，用时 ${zh.format(Math.round(milliseconds))} 毫秒` +
      (passing === null ? "" : `（共 ${zh.format(passing)} 件符合筛选条件）`),
    foundBoth: (shared, all) => `${zh.format(all)} 件商品中有 ${zh.format(shared)} 件两边都有`,
    empty: "没有商品符合此查询。",
    nonePasses: "没有商品符合筛选条件：请放宽或清除筛选。",
    begin: "输入查询词，或选用该用户搜索过的词。",
    failed: "无法连接服务。它还在运行吗？",
    soldOut: "已售罄",
    click: "点击",
    order: "购买",
    clickOn: (title) => `点击 ${title}`,
    orderOf: (title) => `购买 ${title}`,
    noted: "已记录，下一次搜索会考虑它。",
    again: "重新搜索",
    log_p: (score) => `log p ${fixed(score, 2)}`,
    score: (score) => `得分 ${fixed(score, 3)}`,
    formula: (weights) => `得分 = ${sum(weights, PARTS.zh)}`,
    part: (name, value) => part(name, value, PARTS.zh),
    reads: "为何是这件商品",
    tree: "语义 ID 树",
    all: "全部商品",
    items: (count) => `${zh.format(count)} 件商品`,
    ofItems: percent,
    more: (count) => `再显示 ${zh.format(count)} 个`,
    chosen: (value) => `p ${percent(Math.exp(value))}`,
    up: (count) => `比左侧结果上升 ${count} 位`,
    down: (count) => `比左侧结果下降 ${count} 位`,
    same: "与左侧结果同位",
    fresh: "左侧结果中没有",
    isNew: "新",
  },
};

export const LANGUAGES = { en: "en", zh: "zh-CN" };
let language = "en";

export const current = () => language;
export const choose = (name) => {
  language = name in STRINGS ? name : "en";
  document.documentElement.lang = LANGUAGES[language];
};

/** The words under a name, about whatever they speak of. */
export function say(name, ...about) {
  const words = STRINGS[language][name];
  return typeof words === "function" ? words(...about) : words;
}

export const price = (value) =>
  new Intl.NumberFormat(LANGUAGES[language], { minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(value);
