# Tables and figures that set experiments side by side: the paper's Tables 2 to 4 and Figures 1 and 5, gains with
# intervals, what goes beyond the paper, failures, and the data.
rule table_ablation:
    input:
        metrics=scored(ROWS["table2"]),
        predictions=predictions(scored(ROWS["table2"])),
    output:
        **shown(table("table2"), "html", "Ablations", "Table 2: CCTF and PMCA"),
    params:
        runs=comparisons.to_json(ROWS["table2"]),
        code=code("tables ablation"),
    resources:
        **needs("report"),
    message:
        "Table 2"
    log:
        logs("tables/table2"),
    benchmark:
        benchmarks("tables/table2")
    conda:
        environment("report")
    shell:
        "python -m partialres tables ablation {input.metrics} --runs {params.runs:q} --out {output.csv} 2> {log}"


rule table_rpp:
    input:
        metrics=scored(ROWS["table3"]),
        predictions=predictions(scored(ROWS["table3"])),
    output:
        **shown(table("table3"), "html", "Ablations", "Table 3: resampled pseudo points"),
    params:
        runs=comparisons.to_json(ROWS["table3"]),
        code=code("tables rpp"),
    resources:
        **needs("report"),
    message:
        "Table 3"
    log:
        logs("tables/table3"),
    benchmark:
        benchmarks("tables/table3")
    conda:
        environment("report")
    shell:
        "python -m partialres tables rpp {input.metrics} --runs {params.runs:q} --out {output.csv} 2> {log}"


rule table_thresholds:
    input:
        metrics=scored(ROWS["table4"]),
        predictions=predictions(scored(ROWS["table4"])),
        selections=selections(ROWS["table4"]),
    output:
        **shown(table("table4"), "html", "Ablations", "Table 4: selection by D"),
    params:
        selections=repeated("--selection", selections(ROWS["table4"])),
        runs=comparisons.to_json(ROWS["table4"]),
        code=code("tables thresholds"),
    resources:
        **needs("report"),
    message:
        "Table 4"
    log:
        logs("tables/table4"),
    benchmark:
        benchmarks("tables/table4")
    conda:
        environment("report")
    shell:
        "python -m partialres tables thresholds {input.metrics} {params.selections} --runs {params.runs:q} --out {output.csv} 2> {log}"


rule table_extensions:
    input:
        metrics=scored(ROWS["extensions"] + comparisons.oracles(config)),
        predictions=predictions(scored(ROWS["extensions"] + comparisons.oracles(config))),
        selections=selections(ROWS["extensions"]),
    output:
        **shown(table("extensions"), "html", "Ablations", "beyond the paper"),
    params:
        selections=repeated("--selection", selections(ROWS["extensions"])),
        runs=comparisons.to_json(ROWS["extensions"]),
        code=code("tables extensions"),
    resources:
        **needs("report"),
    message:
        "table of what goes beyond the paper"
    log:
        logs("tables/extensions"),
    benchmark:
        benchmarks("tables/extensions")
    conda:
        environment("report")
    shell:
        "python -m partialres tables extensions {input.metrics} {params.selections} --runs {params.runs:q} --out {output.csv} 2> {log}"


rule figure_forest:
    input:
        metrics=gains_of,
        predictions=lambda wildcards: predictions(gains_of(wildcards)),
    output:
        **shown(figure("forest_{dataset}"), "png", "Ablations", "gains, {dataset}"),
    params:
        code=code("figures forest"),
    resources:
        **needs("report"),
    message:
        "figure: gains on {wildcards.dataset}"
    log:
        logs("figures/forest_{dataset}"),
    benchmark:
        benchmarks("figures/forest_{dataset}")
    conda:
        environment("report")
    shell:
        "python -m partialres figures forest {input.metrics} --out {output.png} 2> {log}"


rule figure_peer:
    input:
        metrics=beside_peers(),
    output:
        **shown(figure("peer"), "png", "Results", "Figure 1: a mask head with few masks"),
    params:
        peers=repeated("--peer", PEERS),
        code=code("figures peer"),
    resources:
        **needs("report"),
    message:
        "figure: mask head"
    log:
        logs("figures/peer"),
    benchmark:
        benchmarks("figures/peer")
    conda:
        environment("report")
    shell:
        "python -m partialres figures peer {input.metrics} {params.peers} --out {output.png} 2> {log}"


rule table_failures:
    input:
        refs=results("{dataset}/refs.parquet"),
        metrics=failing,
        predictions=lambda wildcards: predictions(failing(wildcards)),
    output:
        **shown(table("failures_{dataset}"), "html", "Failures", "{dataset}"),
    params:
        code=code("tables failures"),
    resources:
        **needs("report"),
    message:
        "table of failures on {wildcards.dataset}"
    log:
        logs("tables/failures_{dataset}"),
    benchmark:
        benchmarks("tables/failures_{dataset}")
    conda:
        environment("report")
    shell:
        "python -m partialres tables failures {input.refs} {input.metrics} --out {output.csv} 2> {log}"


rule figure_failures:
    input:
        refs=results("{dataset}/refs.parquet"),
        metrics=failing,
        predictions=lambda wildcards: predictions(failing(wildcards)),
    output:
        **shown(figure("failures_{dataset}"), "png", "Failures", "{dataset}"),
    params:
        code=code("figures failures"),
    resources:
        **needs("report"),
    message:
        "figure of failures on {wildcards.dataset}"
    log:
        logs("figures/failures_{dataset}"),
    benchmark:
        benchmarks("figures/failures_{dataset}")
    conda:
        environment("report")
    shell:
        "python -m partialres figures failures {input.refs} {input.metrics} --out {output.png} 2> {log}"


rule table_data:
    input:
        refs=[results(f"{name}/refs.parquet") for name in config["datasets"]],
        splits=labelled(),
    output:
        **shown(table("data"), "html", "Data", "refs, expressions and masks"),
    params:
        splits=repeated("--split", labelled()),
        code=code("tables data"),
    resources:
        **needs("report"),
    message:
        "table of the data"
    log:
        logs("tables/data"),
    benchmark:
        benchmarks("tables/data")
    conda:
        environment("report")
    shell:
        "python -m partialres tables data {input.refs} {params.splits} --out {output.csv} 2> {log}"


use rule figure_qualitative as figure_steps with:
    input:
        refs=results("{dataset}/refs.parquet"),
        predictions=step_predictions,
    output:
        **shown(figure("steps_{dataset}"), "png", "Examples", "Figure 5: step by step, {dataset}"),
    params:
        images=image_folder,
        labels=step_labels,
        code=code("figures qualitative"),
    message:
        "figure: examples of {wildcards.dataset} by step"
    log:
        logs("figures/steps_{dataset}"),
    benchmark:
        benchmarks("figures/steps_{dataset}")
