"""A run's page as markup and style. Knows how things are laid out; every number comes as words already."""

from medgemma_visualizer.reports._page import HEAD

PAGE = (
    HEAD
    + """<title>A run of {{ model }}</title>
<style>
:root { color-scheme: light dark; --line: #8886; --page: #fff; --shade: #8881; --mark: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --page: #16181b; --mark: #6cb8f0; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 1rem auto; padding: 0 1rem 2rem;
  background: var(--page); overflow-wrap: break-word; }
h1 { line-height: 1.2; } h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
p, ul, dl { max-width: 48rem; }
a { color: inherit; } nav a { display: inline-block; margin-right: 1rem; padding: .2rem 0; }
.lead { border-left: 4px solid var(--mark); padding: .1rem 1rem; } .warn { border-left: 4px solid #d55e00;
  padding: .1rem 1rem; } .quiet { font-size: .85em; opacity: .85; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; }
dt { font-weight: 600; } dd { margin: 0; }
@media (max-width: 40rem) { dl { display: block; } dd { margin: 0 0 .4rem 1rem; } }
pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: .6rem .8rem; background: var(--shade); }
.wide { overflow-x: auto; margin: .8rem 0; } .wide:focus-visible { outline: 3px solid var(--mark); }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; line-height: 1.3; }
caption { text-align: left; padding: .3rem 0; font-weight: 600; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td small { display: block; opacity: .85; white-space: nowrap; } thead th { vertical-align: bottom; }
figure { margin: 0; } img { max-width: 100%; height: auto; display: block; background: #fff; }
.films { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); gap: 1rem; }
.films img { width: 100%; background: none; } figcaption { font-size: .85em; margin-top: .3rem; }
@media print { .wide { overflow: visible; } }
</style>
</head>
<body>
{% macro show(table) %}
<div class="wide" tabindex="0" role="region" aria-label="{{ table.caption }}">
<table>
<caption>{{ table.caption }}</caption>
<thead><tr>{% for head in table.heads %}<th scope="col">{{ head }}</th>{% endfor %}</tr></thead>
<tbody>
{% for line in table.lines %}<tr>{% for cell in line %}{% if loop.first %}<th scope="row">{{ cell.value }}</th>\
{% else %}<td>{{ cell.value }}{% if cell.below %}<small>{{ cell.below }}</small>{% endif %}</td>{% endif %}\
{% endfor %}</tr>
{% endfor %}</tbody>
</table>
</div>
{% endmacro %}
{% macro many(tables, empty) %}{% for table in tables %}{{ show(table) }}{% else %}{% if empty %}<p>{{ empty }}</p>\
{% endif %}{% endfor %}{% endmacro %}
<header>
<h1>A run of {{ model }}</h1>
<p class="lead">{{ headline }}</p>
{% for warning in warnings %}<p class="warn"><strong>Note:</strong> {{ warning }}</p>
{% endfor %}
<p>Research use only, not for clinical use. Export level: {{ level }}.</p>
<nav aria-label="Parts of this page"><a href="#what">What was asked</a><a href="#answers">Answers</a>\
<a href="#calibration">Calibration</a><a href="#maps">Maps</a><a href="#wordings">Wordings</a>\
{% if versus %}<a href="#versus">Against another run</a>{% endif %}<a href="#gallery">Cases</a>\
<a href="#left-out">Left out</a></nav>
</header>
<main>
<h2 id="what">What was asked</h2>
<dl>{% for term, words in facts.items() %}<dt>{{ term }}</dt><dd>{{ words }}</dd>
{% endfor %}</dl>
<p>Done again by this command. It names files and folders by their last names only and leaves out --out, since pages
travel; the whole one, with every place, stands in <code>commands.txt</code> in the folder that it wrote to, and
<code>medgemma-visualizer status</code> of that folder prints it:</p>
<pre><code>{{ command }}</code></pre>

<h2 id="answers">Are the answers right?</h2>
<p>{{ accuracy_words }}</p>
{{ many(accuracy, "The answers of this run cannot be judged, or there is nothing to tell them apart by.") }}
<h2 id="calibration">Is p(yes) what it says?</h2>
<p>{{ calibration_words }}</p>
{% if reliability %}<figure><img src="{{ reliability.source }}" alt="{{ reliability.alt }}" \
width="{{ reliability.width }}" height="{{ reliability.height }}"></figure>
{{ show(calibration) }}
{% endif %}
<h2 id="maps">What are the maps worth?</h2>
<p>Means over cases with their 95 % intervals, drawn by patient. “Gain” is the mean difference to each case’s own chance
level in the direction that is better: a method whose interval lies above 0 is better than a map that knows nothing.
For checks, chance is a random order of the same cells.</p>
{{ many(methods, "No method gave a map.") }}
<h2 id="wordings">Does the wording matter?</h2>
<p>{{ wordings_words }}</p>
{{ many(wordings, "") }}
{% if versus %}
<h2 id="versus">Against another run</h2>
<p>{{ versus.words }}</p>
<p>What differs between the two:</p>
<ul>{% for line in versus.differs %}<li><code>{{ line }}</code></li>{% else %}<li>nothing</li>{% endfor %}</ul>
{{ many(versus.tables, "Nothing was measured in both runs.") }}
{% endif %}
<h2 id="gallery">Cases</h2>
{% if gallery %}<p>{{ gallery_words }} Each map has colours of its own. Film left is the patient’s right on a frontal
film.</p>
{% for group in gallery %}
<h3>{{ group.title }}</h3>
<div class="films">
{% for one in group.films %}<figure>{% if one.source %}<img src="{{ one.source }}" alt="{{ one.alt }}" \
width="{{ one.width }}" height="{{ one.height }}">{% else %}<p>No picture.</p>{% endif %}
<figcaption>{{ one.words }}</figcaption></figure>
{% endfor %}</div>
{% endfor %}
{% else %}<p>{{ gallery_words }}</p>{% endif %}

<h2 id="left-out">What was left out, and why</h2>
{{ many(left_out, "Nothing: every row of the source made a case, every case was answered, every method gave a map.") }}
</main>
<footer class="quiet"><p>Library versions: {{ versions }}. Code {{ code }}. Research use only, not for clinical use.</p>
{% if data_use %}<p><strong>Data use.</strong> {{ data_use }}</p>{% endif %}</footer>
</body>
</html>
"""
)
