# Tables and figures; each reads only what evaluation, training and selection wrote.
rule table1:
    input:
        metrics=evaluations("res") + evaluations("retrain"),
        predictions=predictions(evaluations("res") + evaluations("retrain")),
    output:
        **shown(table("table1"), "html", "Results", "Table 1: mIoU and oIoU by mask ratio"),
    params:
        code=code("tables main"),
    resources:
        **needs("report"),
    message:
        "Table 1"
    log:
        logs("tables/table1"),
    benchmark:
        benchmarks("tables/table1")
    conda:
        environment("report")
    shell:
        "python -m partialres tables main {input.metrics} --out {output.csv} 2> {log}"


rule table_details:
    input:
        metrics=evaluations("res") + evaluations("retrain"),
    output:
        **shown(table("details"), "html", "Results", "every score"),
    params:
        code=code("tables details"),
    resources:
        **needs("report"),
    message:
        "table of every score"
    log:
        logs("tables/details"),
    benchmark:
        benchmarks("tables/details")
    conda:
        environment("report")
    shell:
        "python -m partialres tables details {input.metrics} --out {output.csv} 2> {log}"


rule table_rec:
    input:
        metrics=rec_evaluations(),
    output:
        **shown(table("rec"), "html", "Results", "boxes after step 1"),
    params:
        code=code("tables rec"),
    resources:
        **needs("report"),
    message:
        "table of step 1"
    log:
        logs("tables/rec"),
    benchmark:
        benchmarks("tables/rec")
    conda:
        environment("report")
    shell:
        "python -m partialres tables rec {input.metrics} --out {output.csv} 2> {log}"


rule table_pseudo:
    input:
        selections=of_runs("retrain", "pseudo/selection.json"),
    output:
        **shown(table("pseudo"), "html", "Pseudo masks", "kept and their true IoU"),
    params:
        code=code("tables pseudo"),
    resources:
        **needs("report"),
    message:
        "table of pseudo points"
    log:
        logs("tables/pseudo"),
    benchmark:
        benchmarks("tables/pseudo")
    conda:
        environment("report")
    shell:
        "python -m partialres tables pseudo {input.selections} --out {output.csv} 2> {log}"


rule figure_ratio_curve:
    input:
        metrics=evaluations("res") + evaluations("retrain"),
    output:
        **shown(figure("ratio_curve"), "png", "Results", "mIoU by mask ratio"),
    params:
        code=code("figures ratio-curve"),
    resources:
        **needs("report"),
    message:
        "figure: ratio curve"
    log:
        logs("figures/ratio_curve"),
    benchmark:
        benchmarks("figures/ratio_curve")
    conda:
        environment("report")
    shell:
        "python -m partialres figures ratio-curve {input.metrics} --out {output.png} 2> {log}"


rule figure_training:
    input:
        histories=rec_histories()
        + of_runs("res", "res/metrics.csv")
        + of_runs("retrain", "retrain/metrics.csv"),
    output:
        **shown(figure("training"), "png", "Training", "loss of every training"),
    params:
        code=code("figures training"),
    resources:
        **needs("report"),
    message:
        "figure: training curves"
    log:
        logs("figures/training"),
    benchmark:
        benchmarks("figures/training")
    conda:
        environment("report")
    shell:
        "python -m partialres figures training {input.histories} --out {output.png} 2> {log}"


rule figure_pseudo:
    input:
        points=[results(f"{RUN_PATH.format(**run)}/pseudo/points.parquet") for run in owned_points()],
    output:
        **shown(figure("pseudo"), "png", "Pseudo masks", "distribution of D"),
    params:
        thresholds=[
            f"--threshold {picked('pseudo.threshold', run['dataset'], run['experiment'], run['ratio'])}"
            for run in owned_points()
        ],
        code=code("figures pseudo"),
    resources:
        **needs("report"),
    message:
        "figure: distribution of D"
    log:
        logs("figures/pseudo"),
    benchmark:
        benchmarks("figures/pseudo")
    conda:
        environment("report")
    shell:
        "python -m partialres figures pseudo {input.points} {params.thresholds} --out {output.png} 2> {log}"


rule figure_qualitative:
    input:
        refs=results("{dataset}/refs.parquet"),
        predictions=gallery_predictions,
    output:
        **shown(figure("qualitative_{dataset}"), "png", "Examples", "{dataset}"),
    params:
        images=image_folder,
        labels=gallery_labels,
        code=code("figures qualitative"),
    resources:
        **needs("report"),
    message:
        "figure: examples of {wildcards.dataset}"
    log:
        logs("figures/qualitative_{dataset}"),
    benchmark:
        benchmarks("figures/qualitative_{dataset}")
    conda:
        environment("report")
    shell:
        "python -m partialres figures qualitative {input.refs} {input.predictions} --image-folder {params.images:q} "
        "{params.labels} --out {output.png} 2> {log}"
