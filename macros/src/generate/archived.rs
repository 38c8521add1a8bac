//! The archived form of a type: the same fields, archived.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse_quote;

use super::{
    archived_ident, archived_type, private,
    rkyv::{tag, variant_struct},
    with_param,
};
use crate::model::{Field, Fields, Model, Shape, Style};

pub fn archived(model: &Model) -> TokenStream {
    let (private, vis, ident, name) = (private(), &model.vis, archived_ident(model), &model.ident);
    let (generics, clause) = (&model.generics, &model.generics.where_clause);
    let derives = &model.settings.derives;
    let doc = format!("The archived form of [`{name}`]: what a received one is read as.");
    let derives = (!derives.is_empty()).then(|| quote!(#[derive(#(#derives),*)]));
    let attributes = quote!(#[automatically_derived] #[doc = #doc] #derives #[allow(dead_code)]);
    let body = match &model.shape {
        Shape::Struct(fields) => {
            let list = fields.list.iter().map(|field| field_of(field, true));
            let body = match fields.style {
                Style::Named => quote!(#clause { #(#list,)* }),
                Style::Tuple => quote!((#(#list,)*) #clause;),
                Style::Unit => quote!(#clause;),
            };
            quote!(#attributes #[repr(C)] #vis struct #ident #generics #body)
        }
        Shape::Enum(variants) => {
            let variants = variants.iter().map(|variant| {
                let doc = format!("The archived form of `{}`.", variant.ident);
                let (ident, list) = (
                    &variant.ident,
                    variant.fields.list.iter().map(|field| field_of(field, false)),
                );
                match variant.fields.style {
                    Style::Named => quote!(#[doc = #doc] #ident { #(#list,)* }),
                    Style::Tuple => quote!(#[doc = #doc] #ident(#(#list,)*)),
                    Style::Unit => quote!(#[doc = #doc] #ident),
                }
            });
            quote!(#attributes #[repr(u8)] #vis enum #ident #generics #clause { #(#variants,)* })
        }
    };
    let (impl_generics, ty_generics, clause) = model.generics.split_for_impl();
    quote! {
        #body
        // SAFETY: `repr(C)` or `repr(u8)`, and made of archived types only, each of which is portable.
        #[automatically_derived]
        unsafe impl #impl_generics #private::rkyv::Portable for #ident #ty_generics #clause {}
    }
}

fn field_of(field: &Field, with_vis: bool) -> TokenStream {
    let ty = archived_type(field);
    let doc = format!("The archived form of `{}`.", field.name());
    let vis = with_vis.then_some(&field.vis);
    let name = match &field.member {
        syn::Member::Named(ident) => Some(quote!(#ident:)),
        syn::Member::Unnamed(_) => None,
    };
    quote!(#[doc = #doc] #vis #name #ty)
}

/// `Debug` of the archived form looks like the derived one of the type itself.
pub fn debug(model: &Model) -> TokenStream {
    let (private, ident) = (private(), archived_ident(model));
    let mut generics = model.generics.clone();
    let types: Vec<_> = generics.type_params().map(|param| param.ident.clone()).collect();
    let clause = generics.make_where_clause();
    for ty in types {
        clause
            .predicates
            .push(parse_quote!(<#ty as #private::rkyv::Archive>::Archived: ::core::fmt::Debug));
    }
    let (impl_generics, ty_generics, clause) = generics.split_for_impl();
    let arm = |pattern: TokenStream, name: String, fields: &Fields| {
        let members = fields.list.iter().map(|field| &field.member);
        let bindings: Vec<_> = (0..fields.list.len())
            .map(|i| quote::format_ident!("__field{i}"))
            .collect();
        let names = fields.list.iter().map(Field::name);
        let shown = bindings.iter().map(|it| quote!((&#private::Shown(#it)).shown()));
        let body = match fields.style {
            Style::Named => quote!(f.debug_struct(#name)#(.field(#names, #shown))*.finish()),
            Style::Tuple => quote!(f.debug_tuple(#name)#(.field(#shown))*.finish()),
            Style::Unit => quote!(f.write_str(#name)),
        };
        quote!(#pattern { #(#members: #bindings,)* } => #body)
    };
    let archived = &ident;
    let arms: Vec<TokenStream> = match &model.shape {
        Shape::Struct(fields) => vec![arm(quote!(Self), model.ident.to_string(), fields)],
        Shape::Enum(variants) => variants
            .iter()
            .map(|variant| {
                let ident = &variant.ident;
                arm(quote!(#archived::#ident), ident.to_string(), &variant.fields)
            })
            .collect(),
    };
    quote! {
        #[automatically_derived]
        impl #impl_generics ::core::fmt::Debug for #ident #ty_generics #clause {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                #[allow(unused_imports)]
                use #private::{ShownDebug as _, ShownOther as _};
                match self { #(#arms,)* }
            }
        }
    }
}

/// The check of an archive, field by field. Written out here, as bytecheck's own derive takes names that a user's
/// type may have.
pub fn check(model: &Model) -> TokenStream {
    let (private, ident) = (private(), archived_ident(model));
    let generics = with_param(
        model,
        parse_quote!(__C),
        vec![
            parse_quote! {
                __C: #private::rkyv::rancor::Fallible + #private::rkyv::validation::ArchiveContext
                    + #private::rkyv::validation::SharedContext + ?::core::marker::Sized
            },
            parse_quote!(<__C as #private::rkyv::rancor::Fallible>::Error: #private::rkyv::rancor::Source),
        ],
        |ty| parse_quote!(<#ty as #private::rkyv::Archive>::Archived: #private::rkyv::bytecheck::CheckBytes<__C>),
    );
    let (impl_generics, _, clause) = generics.split_for_impl();
    let (_, ty_generics, _) = model.generics.split_for_impl();
    let checks =
        |fields: &Fields, first: usize, of: String| -> Vec<TokenStream> {
            fields.list.iter().enumerate().map(|(i, field)| {
            let (ty, name) = (archived_type(field), field.name());
            let member = if first == 0 { field.member.clone() } else { syn::Member::from(i + first) };
            quote! {
                #private::rkyv::rancor::ResultExt::trace(
                    // SAFETY: a field of what `value` points to, which is aligned and has all its bytes, as the
                    // caller says.
                    unsafe {
                        <#ty as #private::rkyv::bytecheck::CheckBytes<__C>>::check_bytes(
                            ::core::ptr::addr_of!((*value).#member),
                            context,
                        )
                    },
                    #private::rkyv::bytecheck::StructCheckContext { struct_name: #of, field_name: #name },
                )?;
            }
        }).collect()
        };
    let body = match &model.shape {
        Shape::Struct(fields) => {
            let checks = checks(fields, 0, model.ident.to_string());
            quote!(#(#checks)* ::core::result::Result::Ok(()))
        }
        Shape::Enum(variants) => {
            let tag = tag();
            let arms = variants.iter().map(|variant| {
                let (name, part) = (&variant.ident, variant_struct(variant));
                let checks = checks(&variant.fields, 1, format!("{}::{name}", model.ident));
                quote! {
                    __byte if __byte == #tag::#name as u8 => {
                        // An enum of `repr(u8)` is laid out as a union of such structures, one per variant.
                        let value = value.cast::<#part #ty_generics>();
                        #(#checks)*
                        ::core::result::Result::Ok(())
                    }
                }
            });
            let name = model.ident.to_string();
            quote! {
                // SAFETY: an enum of `repr(u8)` starts with its tag, a byte, which may have any value.
                match unsafe { value.cast::<u8>().read() } {
                    #(#arms)*
                    invalid => ::core::result::Result::Err(#private::rkyv::rancor::Source::new(
                        #private::rkyv::bytecheck::InvalidEnumDiscriminantError {
                            enum_name: #name,
                            invalid_discriminant: invalid,
                        },
                    )),
                }
            }
        }
    };
    quote! {
        // SAFETY: every field of the type, or of the variant that the tag says, was checked; a tag that is none is
        // refused.
        #[automatically_derived]
        unsafe impl #impl_generics #private::rkyv::bytecheck::CheckBytes<__C> for #ident #ty_generics #clause {
            #[inline]
            #[allow(unused_variables)]
            unsafe fn check_bytes(
                value: *const Self,
                context: &mut __C,
            ) -> ::core::result::Result<(), <__C as #private::rkyv::rancor::Fallible>::Error> {
                #body
            }
        }
    }
}
