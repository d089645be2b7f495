# The real data sets' public files: fetched, checked, unpacked. What was put there by hand is taken as it is.
# A downloaded file is no output, its checksum beside it is: Snakemake would delete 13 GB before it ran the rule again.
rule download:
    output:
        downloads("downloads/{file}.sha256"),
    params:
        table=DOWNLOAD_TABLE,
    wildcard_constraints:
        file=DOWNLOADABLE,
    localrule: True
    message:
        "download {wildcards.file}"
    log:
        logs("download/{file}"),
    conda:
        environment("prepare")
    shell:
        "python -m partialres download {wildcards.file:q} --table {params.table:q} --folder $(dirname {output:q}) 2> {log:q}"


rule unpack_annotations:
    input:
        fetched("{archive}.zip", "annotations/{archive}.txt"),
    output:
        downloads("annotations/{archive}.txt"),
    params:
        archive=downloads("downloads/{archive}.zip"),
    localrule: True
    message:
        "unpack the annotations of {wildcards.archive}"
    log:
        logs("download/unpack-{archive}"),
    conda:
        environment("prepare")
    shell:
        "python -m partialres unpack {params.archive:q} $(dirname {output:q}) --list {output:q} 2> {log:q}"


use rule unpack_annotations as unpack_images with:
    input:
        fetched("{archive}.zip", "images/{archive}.txt"),
    output:
        downloads("images/{archive}.txt"),
    message:
        "unpack the images of {wildcards.archive}"


rule unpack_vectors:
    input:
        fetched("{archive}.zip", "vectors/{archive}.{dim}d.txt"),
    output:
        downloads("vectors/{archive}.{dim}d.txt"),
    params:
        archive=downloads("downloads/{archive}.zip"),
    wildcard_constraints:
        dim=r"\d+",
    localrule: True
    message:
        "unpack the {wildcards.dim}-dimensional vectors of {wildcards.archive}"
    log:
        logs("download/unpack-{archive}.{dim}d"),
    conda:
        environment("prepare")
    shell:
        "python -m partialres unpack {params.archive:q} {output:q} --only {wildcards.archive}.{wildcards.dim}d.txt 2> {log:q}"


rule place_weights:
    input:
        fetched("{file}", "weights/{file}"),
    output:
        downloads("weights/{file}"),
    params:
        file=downloads("downloads/{file}"),
    wildcard_constraints:
        file=DOWNLOADABLE,
    localrule: True
    message:
        "backbone weights: {wildcards.file}"
    log:
        logs("download/place-{file}"),
    conda:
        environment("prepare")
    shell:
        "(ln -f {params.file:q} {output:q} || cp {params.file:q} {output:q}) 2> {log:q} && touch {output:q}"
