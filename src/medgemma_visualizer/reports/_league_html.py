"""The league's page as markup and style. Knows how things are laid out; every number comes as words already."""

from medgemma_visualizer.reports._page import HEAD

PAGE = (
    HEAD
    + """<title>Which maps to believe: {{ model }}</title>
<style>
:root { color-scheme: light dark; --line: #8886; --page: #fff; --shade: #8881; --mark: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --page: #16181b; --mark: #6cb8f0; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 84rem; margin: 1rem auto; padding: 0 1rem 2rem;
  background: var(--page); overflow-wrap: break-word; }
h1 { line-height: 1.2; } h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
p, ul, dl { max-width: 48rem; }
a { color: inherit; } nav a { display: inline-block; margin-right: 1rem; padding: .2rem 0; }
.lead { border-left: 4px solid var(--mark); padding: .1rem 1rem; }
.quiet { font-size: .85em; opacity: .85; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; }
dt { font-weight: 600; } dd { margin: 0; }
@media (max-width: 40rem) { dl { display: block; } dd { margin: 0 0 .4rem 1rem; } }
code { font-size: .9em; } pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: .6rem .8rem;
  background: var(--shade); }
.wide { overflow-x: auto; margin: .8rem 0; } .wide:focus-visible { outline: 3px solid var(--mark); }
table { border-collapse: separate; border-spacing: 0; font-size: .85rem;
  font-variant-numeric: tabular-nums; line-height: 1.3; }
caption { text-align: left; padding: .3rem 0; font-weight: 600; }
th, td { padding: .35rem .5rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td { white-space: nowrap; } td.words { white-space: normal; min-width: 12rem; }
thead th { vertical-align: bottom; } thead small, td small { display: block; font-weight: 400; opacity: .85; }
tbody th[scope=row] { position: sticky; left: 0; background: var(--page); min-width: 6.5rem; max-width: 11rem; }
tbody th[scope=rowgroup] { padding-top: 1rem; font-weight: 400; font-style: italic; }
tr.best th, tr.best td { background: color-mix(in srgb, var(--mark) 14%, var(--page)); }
.badge { display: inline-block; font-size: .75rem; font-weight: 600; border: 1px solid; border-radius: .6rem;
  padding: 0 .45rem; }
figure { margin: 0; } img { width: 100%; height: auto; display: block; background: #fff; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
.figures.large { grid-template-columns: repeat(auto-fill, minmax(min(100%, 28rem), 1fr)); }
.films { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); gap: 1rem; }
.films img { background: none; } figcaption { font-size: .85em; margin-top: .3rem; }
details { border-bottom: 1px solid var(--line); } summary { padding: .5rem 0; cursor: pointer; font-weight: 600; }
@media print { .wide { overflow: visible; } }
</style>
</head>
<body>
{% macro cell(one) %}{{ one.value }}{% if one.interval %}<small>{{ one.interval }}</small>{% endif %}{% endmacro %}
{% macro heads(metrics) %}{% for metric in metrics %}
<th scope="col">{{ metric.label }}{% if metric.below %}<small>{{ metric.below }}</small>{% endif %}</th>
{% endfor %}{% endmacro %}
{% macro name(line) %}<th scope="row">{{ line.label }}{% for badge in line.badges %} <span class="badge">{{ badge }}\
</span>{% endfor %}</th>{% endmacro %}
{% macro standing(table, caption) %}
<div class="wide" tabindex="0" role="region" aria-label="{{ caption }}">
<table>
<caption>{{ caption }}</caption>
<thead><tr><th scope="col">Method</th><th scope="col">Rank</th><th scope="col">Mean rank</th>
{% if table.whole %}<th scope="col">Sanity</th>{% endif %}<th scope="col">Maps of cases</th>{{ heads(table.metrics) }}
{% if table.whole %}<th scope="col">Forward passes</th><th scope="col">Seconds</th>{% endif %}</tr></thead>
{% for group in table.groups %}<tbody>
{% if group.title %}<tr><th scope="rowgroup" colspan="{{ table.columns }}">{{ group.title }}</th></tr>{% endif %}
{% for line in group.lines %}
<tr{% if line.best %} class="best"{% endif %}>{{ name(line) }}<td>{{ line.rank }}</td>\
<td>{{ cell(line.mean_rank) }}</td>
{% if table.whole %}<td>{{ line.sanity }}</td>{% endif %}<td>{{ line.maps }} of {{ line.n }}</td>
{% for one in line.cells %}<td>{{ cell(one) }}</td>{% endfor %}
{% if table.whole %}<td>{{ cell(line.passes) }}</td><td>{{ cell(line.seconds) }}</td>{% endif %}</tr>
{% endfor %}</tbody>
{% endfor %}</table>
</div>
{% endmacro %}
{% macro plain(table) %}
<div class="wide" tabindex="0" role="region" aria-label="{{ table.caption }}">
<table>
<caption>{{ table.caption }}</caption>
<thead><tr><th scope="col">Method</th>{{ heads(table.heads) }}</tr></thead>
<tbody>
{% for line in table.lines %}<tr>{{ name(line) }}{% for one in line.cells %}<td{% if one.wordy %} class="words"\
{% endif %}>{{ cell(one) }}</td>{% endfor %}</tr>
{% endfor %}</tbody>
</table>
</div>
{% endmacro %}
<header>
<h1>Which maps to believe: {{ model }}</h1>
<p class="lead">{{ headline }}</p>
<p><strong>This league is of this very model; it says nothing about another.</strong> Research use only, not for
clinical use.</p>
<nav aria-label="Parts of this page"><a href="#what">What this is</a><a href="#table">The table</a>\
<a href="#reference">Against {{ reference }}</a><a href="#pictures">As pictures</a><a href="#curves">Curves</a>\
<a href="#parts">Parts of the cases</a><a href="#cases">Best and worst cases</a><a href="#left-out">Left out</a></nav>
</header>
<main>
<h2 id="what">What this is</h2>
<dl>{% for term, words in facts.items() %}<dt>{{ term }}</dt><dd>{{ words }}</dd>
{% endfor %}</dl>
{% for note in notes %}<p><strong>Note:</strong> {{ note }}</p>{% endfor %}
<p>{{ probe }}</p>
<p>Built again by</p>
<pre><code>{{ command }}</code></pre>

<h2 id="table">The table</h2>
<p>Best first. Means over cases with their 95 % intervals, drawn by patient. A missing map counts as one that knows
nothing: it gets the chance level. “Tied” methods share a rank: the interval of the difference of their mean ranks to
the better one holds 0. Higher is better in every column of scores.</p>
{{ standing(table, "Methods by rank") }}
{% if seconds_note %}<p class="quiet">{{ seconds_note }}</p>{% endif %}
<details><summary>What the columns mean</summary>
<dl>{% for term, words in meanings.items() %}<dt>{{ term }}</dt><dd>{{ words }}</dd>
{% endfor %}</dl></details>
{% for table in further %}<details><summary>{{ table.caption }}</summary>{{ plain(table) }}</details>
{% endfor %}
<h2 id="reference">Against {{ reference }}</h2>
<p>The mean difference to {{ reference }}, the specification’s default, on the same cases, with its 95 % interval; above
0 is better than it. p: Wilcoxon’s signed-rank test by patient, corrected by Holm for all tests of this table.
Intervals are not corrected: where the two disagree, believe p.</p>
{% if against.lines %}{{ plain(against) }}{% else %}<p>Nothing else was measured.</p>{% endif %}

<h2 id="pictures">The table as pictures</h2>
<p>Diamond: the best method. Square: {{ reference }}. Cross: controls, which know nothing of the case. A method whose
interval crosses the dotted line is not shown to be better than chance.</p>
<div class="figures">
{% for figure in forests %}<figure><img src="{{ figure.source }}" alt="{{ figure.alt }}" width="{{ figure.width }}" \
height="{{ figure.height }}"></figure>
{% endfor %}</div>

<h2 id="curves">What happens as cells go</h2>
{% if curves %}<p>Mean probability of the target as the most relevant cells are removed first (deletion, MoRF; lower is
better) and as only these are shown (insertion, LeRF read backwards; higher is better). SRG is the area between the two.
Bands are 95 % intervals.</p>
<div class="figures large">
{% for figure in curves %}<figure><img src="{{ figure.source }}" alt="{{ figure.alt }}" width="{{ figure.width }}" \
height="{{ figure.height }}"></figure>
{% endfor %}</div>
{% else %}<p>The rows of this league carry no curves.</p>{% endif %}

<h2 id="parts">Parts of the cases</h2>
<p>The same by part. Few cases make wide intervals, and many parts are looked at: a winner of one part only is a
question, not a finding.</p>
{% for part in parts %}<details><summary>{{ part.title }}</summary>{{ standing(part.table, part.title) }}</details>
{% else %}<p>The cases are not told apart by anything.</p>
{% endfor %}
<h2 id="cases">Best and worst cases</h2>
{% if cases %}<p>{{ chosen_by }} The cyan line is the known region. Each map has colours of its own. Film left is the
patient’s right on a frontal film.</p>
{% for group in cases %}
<h3>{{ group.label }}</h3>
<div class="films">
{% for one in group.films %}<figure>{% if one.source %}<img src="{{ one.source }}" alt="{{ one.alt }}" \
width="{{ one.width }}" height="{{ one.height }}">{% else %}<p>No picture was drawn.</p>{% endif %}
<figcaption><strong>{{ one.which }}</strong> {{ one.words }}</figcaption></figure>
{% endfor %}</div>
{% endfor %}
{% else %}<p>No row of this league can be shown as a case.</p>{% endif %}

<h2 id="left-out">What was left out, and why</h2>
{% if left_out %}<p>{{ items }} that were not measured, by reason:</p>
<ul>{% for reason, count in left_out.items() %}<li>{{ reason }}: {{ count }}</li>
{% endfor %}</ul>{% else %}<p>No case.</p>{% endif %}
{% if silent %}<p>Cases without a map, by method:</p>
<ul>{% for words in silent %}<li>{{ words }}</li>
{% endfor %}</ul>{% else %}<p>Every method gave a map of every case.</p>{% endif %}
</main>
<footer class="quiet"><p>Library versions: {{ versions }}. Research use only, not for clinical use.</p></footer>
</body>
</html>
"""
)
