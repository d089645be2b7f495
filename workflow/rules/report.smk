# Tables and figures; each reads only what evaluation, training and selection wrote.
REPORT_CODE = modules("report/evaluations")


rule table1:
    input:
        metrics=evaluations("res") + evaluations("retrain"),
        code=REPORT_CODE + modules("report/tables", "report/render"),
    output:
        **table("table1"),
    message:
        "Table 1"
    log:
        logs("tables/table1"),
    conda:
        ENVIRONMENT
    shell:
        "python -m partialres tables main {input.metrics} --out {output.csv} 2> {log}"


rule table_details:
    input:
        metrics=evaluations("res") + evaluations("retrain"),
        code=REPORT_CODE + modules("report/tables", "report/render"),
    output:
        **table("details"),
    message:
        "table of every score"
    log:
        logs("tables/details"),
    conda:
        ENVIRONMENT
    shell:
        "python -m partialres tables details {input.metrics} --out {output.csv} 2> {log}"


rule table_rec:
    input:
        metrics=rec_evaluations(),
        code=REPORT_CODE + modules("report/tables", "report/render"),
    output:
        **table("rec"),
    message:
        "table of step 1"
    log:
        logs("tables/rec"),
    conda:
        ENVIRONMENT
    shell:
        "python -m partialres tables rec {input.metrics} --out {output.csv} 2> {log}"


rule table_pseudo:
    input:
        selections=of_runs("retrain", "pseudo/selection.json"),
        code=REPORT_CODE + modules("report/tables", "report/render"),
    output:
        **table("pseudo"),
    message:
        "table of pseudo points"
    log:
        logs("tables/pseudo"),
    conda:
        ENVIRONMENT
    shell:
        "python -m partialres tables pseudo {input.selections} --out {output.csv} 2> {log}"


rule figure_ratio_curve:
    input:
        metrics=evaluations("res") + evaluations("retrain"),
        code=REPORT_CODE + modules("report/figures", "report/style"),
    output:
        **figure("ratio_curve"),
    message:
        "figure: ratio curve"
    log:
        logs("figures/ratio_curve"),
    conda:
        ENVIRONMENT
    shell:
        "python -m partialres figures ratio-curve {input.metrics} --out {output.png} 2> {log}"


rule figure_training:
    input:
        histories=rec_histories()
        + of_runs("res", "res/metrics.csv")
        + of_runs("retrain", "retrain/metrics.csv"),
        code=REPORT_CODE + modules("report/figures", "report/style"),
    output:
        **figure("training"),
    message:
        "figure: training curves"
    log:
        logs("figures/training"),
    conda:
        ENVIRONMENT
    shell:
        "python -m partialres figures training {input.histories} --out {output.png} 2> {log}"


rule figure_pseudo:
    input:
        points=owned_points(),
        code=REPORT_CODE + modules("report/figures", "report/style"),
    output:
        **figure("pseudo"),
    params:
        threshold=config["settings"]["pseudo"]["threshold"],
    message:
        "figure: distribution of D"
    log:
        logs("figures/pseudo"),
    conda:
        ENVIRONMENT
    shell:
        "python -m partialres figures pseudo {input.points} --threshold {params.threshold} --out {output.png} 2> {log}"


rule figure_qualitative:
    input:
        refs=results("{dataset}/refs.parquet"),
        predictions=gallery_predictions,
        code=REPORT_CODE + modules("report/gallery", "report/style"),
    output:
        **figure("qualitative_{dataset}"),
    params:
        images=image_folder,
        labels=gallery_labels,
    message:
        "figure: examples of {wildcards.dataset}"
    log:
        logs("figures/qualitative_{dataset}"),
    conda:
        ENVIRONMENT
    shell:
        "python -m partialres figures qualitative {input.refs} {input.predictions} --image-folder {params.images:q} "
        "{params.labels} --out {output.png} 2> {log}"
