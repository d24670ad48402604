#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/json.h"
#include "eval/html.h"
#include "eval/selection.h"
#include "fastkv/draw.h"
#include "fastkv/inspect.h"

namespace fastkv {
namespace {

using OrderedJson = nlohmann::ordered_json;

/// JSON inside of a script element must not spell an end of it.
std::string script_json(const OrderedJson& json) {
  std::string out;
  for (const char c : json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace)) {
    if (c == '<') {
      out += "\\u003c";
    } else {
      out += c;
    }
  }
  return out;
}

/// [value, how often, value, how often ...]: prompts are long and selections have runs.
OrderedJson runs(const std::vector<std::int64_t>& values) {
  OrderedJson list = OrderedJson::array();
  for (std::size_t i = 0; i < values.size();) {
    std::size_t end = i;
    while (end < values.size() && values[end] == values[i]) ++end;
    list.push_back(values[i]);
    list.push_back(end - i);
    i = end;
  }
  return list;
}

OrderedJson page_data(const TracedSelection& s, const std::vector<std::string>& tokens) {
  OrderedJson layers = OrderedJson::array();
  for (const TracedSelection::Layer& layer : s.layers) {
    // -1: the token never came to this layer.
    std::vector<std::int64_t> values = layer.kept;
    for (std::size_t t = 0; t < values.size(); ++t) {
      if (!layer.entered[t]) values[t] = -1;
    }
    layers.push_back({{"heads", layer.heads}, {"kept", runs(values)}});
  }
  return {{"tokens", tokens}, {"layers", layers}};
}

LineChart sizes_chart(const TracedSelection& s) {
  LineChart chart;
  chart.title = "Tokens by layer";
  chart.x_label = "layer";
  chart.y_label = "tokens";
  chart.y_low = 0.0;
  Series entered{"enter the layer", {}, {}, {}}, any{"kept by some head", {}, {}, {}},
      mean{"kept by a head", {}, {}, {}};
  for (std::size_t i = 0; i < s.layers.size(); ++i) {
    const TracedSelection::Layer& layer = s.layers[i];
    double in = 0.0, some = 0.0, all = 0.0;
    for (std::size_t t = 0; t < layer.kept.size(); ++t) {
      in += layer.entered[t] ? 1.0 : 0.0;
      some += layer.kept[t] > 0 ? 1.0 : 0.0;
      all += static_cast<double>(layer.kept[t]);
    }
    const auto x = static_cast<double>(i);
    entered.points.emplace_back(x, in);
    any.points.emplace_back(x, some);
    mean.points.emplace_back(x, all / static_cast<double>(std::max<std::int64_t>(layer.heads, 1)));
  }
  chart.series = {entered, any, mean};
  return chart;
}

LineChart overlap_chart(const TracedSelection& s) {
  LineChart chart;
  chart.title = "What layers' selections have in common";
  chart.subtitle = "tokens kept by some head of both, of those kept by some head of either";
  chart.x_label = "layer";
  chart.y_label = "%";
  chart.y_low = 0.0;
  chart.y_high = 100.0;
  Series next{"with the layer after", {}, {}, {}}, last{"with the last layer", {}, {}, {}};
  for (std::size_t i = 0; i + 1 < s.layers.size(); ++i) {
    const auto x = static_cast<double>(i);
    next.points.emplace_back(x, 100 * overlap(s.layers[i], s.layers[i + 1]));
    last.points.emplace_back(x, 100 * overlap(s.layers[i], s.layers.back()));
  }
  chart.series = {next, last};
  return chart;
}

HeatMap overlap_map(const TracedSelection& s) {
  HeatMap map;
  map.title = "Every layer with every other";
  map.x_label = map.y_label = "layer";
  map.scale_label = "in common, %";
  for (std::size_t a = 0; a < s.layers.size(); ++a) {
    map.x.push_back(std::to_string(a));
    map.y.push_back(std::to_string(a));
    for (const TracedSelection::Layer& b : s.layers)
      map.cells.push_back(100 * overlap(s.layers[a], b));
  }
  return map;
}

constexpr std::string_view style = R"(
body { font-family: Helvetica, Arial, sans-serif; color: #212529; margin: 24px; }
p, label { color: #495057; }
#bar { position: sticky; top: 0; background: white; padding: 10px 0; border-bottom: 1px solid #dee2e6; }
#layer { width: 340px; vertical-align: middle; }
#now { display: inline-block; min-width: 34em; margin-left: 12px; }
#text { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.6; font-size: 14px; margin: 16px 0 28px; }
#text span { border-radius: 2px; }
#text .gone { color: #ced4da; }
.key { display: inline-block; padding: 0 8px; margin-right: 6px; border-radius: 2px; }
.charts { display: flex; flex-wrap: wrap; gap: 16px; }
.charts svg { border: 1px solid #dee2e6; border-radius: 6px; }
)";

// Colours from white to green by the share of heads that keep a token. -1 in `kept`: not in this
// layer any more.
constexpr std::string_view script = R"(
const data = JSON.parse(document.getElementById("data").textContent);
const text = document.getElementById("text"), slider = document.getElementById("layer");
const everything = document.getElementById("all"), now = document.getElementById("now");
const spread = runs => {
  const values = [];
  for (let i = 0; i < runs.length; i += 2) for (let k = 0; k < runs[i + 1]; ++k) values.push(runs[i]);
  return values;
};
const layers = data.layers.map(l => ({heads: l.heads, kept: spread(l.kept)}));
const spans = data.tokens.map(t => {
  const span = document.createElement("span");
  span.textContent = t;
  text.appendChild(span);
  return span;
});
const mix = (a, b, t) => Math.round(a + (b - a) * t);
const colour = share => `rgb(${mix(255, 31, share)}, ${mix(255, 148, share)}, ${mix(255, 130, share)})`;
function show() {
  const chosen = everything.checked ? layers : [layers[slider.value]];
  slider.disabled = everything.checked;
  let kept = 0, gone = 0;
  spans.forEach((span, t) => {
    let sum = 0, heads = 0, here = false;
    for (const l of chosen) {
      heads += l.heads;
      if (l.kept[t] < 0) continue;
      here = true;
      sum += l.kept[t];
    }
    span.className = here ? "" : "gone";
    span.style.background = sum > 0 ? colour(sum / heads) : "";
    span.style.color = sum / heads > 0.7 ? "white" : "";
    span.title = here ? `token ${t}: kept by ${sum} of ${heads} heads` : `token ${t}: not in this layer`;
    if (sum > 0) ++kept;
    if (!here) ++gone;
  });
  const what = everything.checked ? "all layers" : `layer ${slider.value}`;
  now.textContent = `${what}: some head keeps ${kept} of ${spans.length} tokens, ${gone} did not come here`;
}
slider.max = layers.length - 1;
slider.addEventListener("input", show);
everything.addEventListener("change", show);
show();
)";

}  // namespace

std::vector<std::string> token_texts(const Text& text, std::span<const TokenId> ids) {
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::string alone = text.decode(ids.subspan(i, 1), /*skip_special=*/false);
    if (i == 0) {
      texts.push_back(alone);
      continue;
    }
    // After another token, since decoders take the space from the beginning of a text.
    const std::string before = text.decode(ids.subspan(i - 1, 1), /*skip_special=*/false);
    const std::string both = text.decode(ids.subspan(i - 1, 2), /*skip_special=*/false);
    texts.push_back(both.starts_with(before) ? both.substr(before.size()) : alone);
  }
  return texts;
}

std::string inspection_page(const std::string& title, const std::vector<std::string>& tokens,
                            const std::string& trace) {
  const TracedSelection s = read_selection(trace);
  std::string charts = draw_svg(sizes_chart(s)) + draw_svg(overlap_chart(s));
  if (s.layers.size() > 1) charts += draw_svg(overlap_map(s));
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<title>{0}: {1}</title>\n<style>{2}</style>\n</head>\n<body>\n<h1>{0}: {1}</h1>\n"
      "<p>{3} tokens, {4} layers, options {5}</p>\n"
      "<div id=\"bar\">\n<label>Layer <input type=\"range\" id=\"layer\" min=\"0\" "
      "value=\"0\"></label>\n"
      "<label><input type=\"checkbox\" id=\"all\"> all layers</label>\n<span "
      "id=\"now\"></span><br>\n"
      "<span class=\"key\" style=\"background: rgb(31, 148, 130); color: white\">every head keeps "
      "it</span>\n"
      "<span class=\"key\" style=\"background: rgb(165, 212, 205)\">some do</span>\n"
      "<span class=\"key\">none does</span>\n"
      "<span class=\"key\" style=\"color: #ced4da\">did not come to this layer</span>\n</div>\n"
      "<div id=\"text\"></div>\n<div class=\"charts\">\n{6}</div>\n"
      "<script type=\"application/json\" id=\"data\">{7}</script>\n<script>{8}</script>\n"
      "</body>\n</html>\n",
      escaped(s.method), escaped(title), style, s.tokens, s.layers.size(), escaped(s.options),
      charts, script_json(page_data(s, tokens)), script);
}

}  // namespace fastkv
